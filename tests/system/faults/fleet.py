"""A small fleet in front of a real etcd: instances, the registrar of their host, a dynproxy, clients, and an oracle."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import Target
from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_hosts import free_network
from tests.support.fake_docker import FakeDocker
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import Program, status
from tests.support.waiting import eventually
from tests.system.faults.load import Load

SERVICE = "echo"
NAMES = ("a", "b", "c")
SPARE = "d"
PREFIX = f"/services/{SERVICE}/"


@dataclass(frozen=True)
class Held:
    """A record as etcd holds it: what it says, when it was made, and under which lease."""

    address: str
    created: int
    lease: int


class Fleet:
    """`registrar` (of a pretended engine's containers) and `proxy` run; instances listen at `address`: three that are
    registered, and a spare one.

    `endpoints` are etcd's as the programs are told, `options` go to both of them.
    """

    def __init__(
        self, etcd: EtcdCluster, address: str, folder: Path, endpoints: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        self.etcd, self.address = etcd, address
        self.docker = FakeDocker(folder)
        self.servers = [NamedServer(name, host=address) for name in NAMES]
        self.spare = NamedServer(SPARE, host=address)
        self.port = free_port()
        self.target = Target(self.port)
        self._settled = 0
        self._registrar_admin, self._proxy_admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        where = ("--etcd", ",".join(endpoints or etcd.endpoints), *options)
        self.registrar = Program(
            *("registrar", *where, "--docker", self.docker.url, "--host-id", "here", "--advertise", address),
            *("--admin", self._registrar_admin),
        )
        self.proxy = Program(
            *("dynproxy", SERVICE, str(self.port), *where, "--listen", "127.0.0.1", "--instances-in", address),
            *("--admin", self._proxy_admin, "--drain", "1"),
        )

    def start(self, stack: ExitStack) -> None:
        """Everything, until the proxy shows the three instances."""
        stack.enter_context(self.docker)
        for server in self.servers:
            stack.enter_context(server)
            self.run(server)
        stack.enter_context(self.spare)
        stack.enter_context(self.registrar)
        stack.enter_context(self.proxy)
        self.wait_true(len(NAMES), seconds=30)

    def run(self, server: NamedServer) -> None:
        """A container for a server, as the engine shows it."""
        self.docker.start(f"web-{server.name}", f"{server.port}:80/tcp", labels={"SERVICE_NAME": SERVICE})

    def wait_spare(self, seconds: float) -> float:
        """Start the spare instance's container; the seconds after which the proxy shows it."""
        started = time.monotonic()
        self.run(self.spare)
        eventually(lambda: f"{self.address}:{self.spare.port}" in self.shown().values(), seconds, "the spare instance")
        return time.monotonic() - started

    def without_spare(self) -> None:
        """Remove the spare instance's container, if there is one, and wait until the proxy and etcd agree."""
        with contextlib.suppress(StopIteration):
            self.docker.remove(f"web-{SPARE}")
        self.wait_true(len(NAMES), seconds=30)
        self._settled = len(self.proxy.lines)

    def load(self, rate: float = 50, held: int = 8) -> Load:
        """Clients."""
        return Load(self.target, (*NAMES, SPARE), rate, held)

    # What etcd holds, and what the proxy shows

    def held(self) -> dict[str, Held]:
        """What etcd holds of the service, by instance."""
        return held(self.etcd, PREFIX)

    def shown(self) -> dict[str, str]:
        """The addresses that the proxy shows, by instance."""
        return {item["id"]: item["address"] for item in self.proxy_service()["instances"] or []}

    def proxy_service(self) -> dict[str, Any]:
        """What the proxy says of the service; an AssertionError while it cannot be asked."""
        found: dict[str, Any] = self.proxy_status()["services"][0]
        return found

    def proxy_status(self) -> dict[str, Any]:
        return status(self._proxy_admin)

    def registrar_status(self) -> dict[str, Any]:
        return status(self._registrar_admin)

    def true(self) -> bool:
        """Whether the proxy shows just what etcd holds."""
        return self.shown() == {name: record.address for name, record in self.held().items()}

    def wait_true(self, count: int, seconds: float = 10.0) -> None:
        """Until etcd holds so many instances and the proxy shows the same."""

        def look() -> bool:
            assert len(shown := self.shown()) == count, shown
            return self.true()

        eventually(look, seconds, f"the proxy shows the {count} instances that etcd holds")

    @property
    def removals(self) -> list[str]:
        """The proxy's lines about instances that it has taken out, since `without_spare`."""
        return [line for line in self.proxy.lines[self._settled :] if f"{SERVICE}: - " in line]


def held(etcd: EtcdCluster, prefix: str) -> dict[str, Held]:
    """The records under a prefix, by the last part of their keys."""
    found = {}
    for pair in etcd.etcdctl_json("get", "--prefix", prefix).get("kvs", ()):
        record = json.loads(base64.b64decode(pair["value"]))
        name = base64.b64decode(pair["key"]).decode().rpartition("/")[2]
        found[name] = Held(f"{record['host']}:{record['port']}", pair["create_revision"], pair.get("lease", 0))
    return found


@contextlib.contextmanager
def own_address() -> Iterator[str]:
    """An address of this machine's that is none of 127.0.0.0/8, which registrar would not advertise."""
    address = f"{free_network()}.1"
    subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        yield address
    finally:
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)


@contextlib.contextmanager
def fleet(
    etcd: EtcdCluster, address: str, folder: Path, endpoints: Sequence[str] = (), options: Sequence[str] = ()
) -> Iterator[Fleet]:
    """A fleet for the length of a block."""
    with ExitStack() as stack:
        made = Fleet(etcd, address, folder, endpoints, options)
        made.start(stack)
        yield made
