"""A real dynproxy on a forwarding host between clients and servers, with an etcd beside it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.support.etcd_cluster import EtcdCluster
from tests.support.hosts import Address, Host, Hosts
from tests.support.programs import Program, fetch, status
from tests.support.waiting import eventually

REDIS = 6379
NO_VALUE = "$-1"  # as Redis says it
ADMIN_PORTS = itertools.count(9000)
PORTS = itertools.count(7000)
BATCH = 125  # operations of one transaction; etcd allows 128


class Redis:
    """A redis-server at one of the server's many addresses, of both families. Its name is its IPv4 address."""

    def __init__(self, server: Host, number: int) -> None:
        self.number = number
        self.host, self.host6 = Hosts.instance(number), Hosts.instance(number, 6)
        self._server = server

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return once it serves."""
        self.process = self._server.popen(
            *("redis-server", "--bind", self.host, self.host6, "--port", str(REDIS), "--save", ""),
            *("--protected-mode", "no", "--tcp-backlog", "4096", "--maxclients", "4000"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._named, 20, f"redis at {self.host}")

    def _named(self) -> bool:
        try:
            with self._server.connect((self.host, REDIS)) as client:
                client.sendall(f"SET who {self.host}\r\n".encode())
                return client.recv(100) == b"+OK\r\n"
        except ConnectionError:
            return False

    def kill(self) -> None:
        """SIGKILL, and gone on return. Killing a dead one is fine."""
        self.process.kill()
        self.process.wait(10)


class Talk:
    """A client's connection to some Redis. Raises OSError, EOFError when it is closed."""

    def __init__(self, client: Host, to: Address, seconds: float = 15) -> None:
        self.socket = client.connect(to)
        self.socket.settimeout(seconds)
        self._file = self.socket.makefile("rb")

    def who(self) -> str:
        """The name of the one that answers; one that serves already and was not told its name yet is asked again."""
        while self._answer_to(b"GET who\r\n") == NO_VALUE:
            time.sleep(0.01)
        return self._line()

    def _answer_to(self, question: bytes) -> str:
        self.socket.sendall(question)
        return self._line()

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("closed")
        return line.decode().strip()

    def close(self) -> None:
        """End it."""
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def answered_by(client: socket.socket) -> str:
    """The address that answers a datagram of a connected socket."""
    client.send(b"who?")
    return client.recv(100).decode()


class Registry:
    """etcd on the proxy's host, written to through its JSON gateway over one open connection."""

    def __init__(self, host: Host, url: str) -> None:
        self.url = url
        self._http = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]))
        self._http.sock = host.connect(("127.0.0.1", self._http.port))
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two small writes

    def put(self, service: str, name: str, host: str, port: int = REDIS, **more: Any) -> None:
        """Write a record."""
        self.write({f"{service}/{name}": {"host": host, "port": port, **more}})

    def delete(self, service: str, *names: str) -> None:
        """Remove records."""
        self._ask([{"requestDeleteRange": {"key": _key(f"{service}/{name}")}} for name in names])

    def write(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write records, `service/name` to fields, in transactions of at most BATCH."""
        puts = [
            {"requestPut": {"key": _key(name), "value": _base64(json.dumps(value))}} for name, value in records.items()
        ]
        for start in range(0, len(puts), BATCH):
            self._ask(puts[start : start + BATCH])

    def _ask(self, operations: list[dict[str, Any]]) -> None:
        self._http.request("POST", "/v3/kv/txn", json.dumps({"success": operations}))
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.status == http.client.OK, text

    def close(self) -> None:
        self._http.close()


def _key(name: str) -> str:
    return _base64(f"/services/{name}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class KernelProxy(Program):
    """dynproxy on the proxy's host. `services` are names by port."""

    def __init__(self, stage: Stage, services: Mapping[int, str], *options: str, prefix: Iterable[str] = ()) -> None:
        self.host = stage.hosts.proxy
        self.admin = f"127.0.0.1:{next(ADMIN_PORTS)}"
        fronts = [f"{service}:{port}" for port, service in services.items()]
        where = ("--etcd", stage.registry.url, "--admin", self.admin)
        super().__init__("dynproxy", *fronts, *where, "--drain", "2", *options, prefix=(*self.host.prefix, *prefix))

    def status(self) -> dict[str, Any]:
        """The status document; an AssertionError while it cannot be asked."""
        return self.host.call(lambda: status(self.admin))

    def service(self, name: str) -> dict[str, Any]:
        """What the status document says of a service."""
        return next(item for item in self.status()["services"] if item["name"] == name)

    def instance(self, service: str, name: str) -> dict[str, Any]:
        """What the status document says of an instance."""
        return next(item for item in self.service(service)["instances"] if item["id"] == name)

    def kernel(self) -> dict[str, Any]:
        """What the status document says of the kernel plane's own work."""
        found: dict[str, Any] = self.status()["plane"]["kernel"]
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        text = self.host.call(lambda: fetch(f"http://{self.admin}/metrics")[1])
        samples = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        assert samples, f"no metric {name}"
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(float(value) for has, value in samples if wanted <= set(has.split(",")))

    def wait_serving(self, service: str, *names: str, plane: str = "kernel", seconds: float = 60) -> None:
        """Until a plane serves exactly these instances."""

        def serving() -> bool:
            shown = self.service(service)
            assert shown["instances"] is not None
            return (shown["plane"], sorted(item["id"] for item in shown["instances"])) == (plane, sorted(names))

        eventually(serving, seconds, f"{plane} serves {names}")


class Stage:
    """The three hosts, an etcd on the proxy's, and three servers; for as many tests as like, one after the other."""

    def __init__(self, hosts: Hosts, registry: Registry, servers: list[Redis]) -> None:
        self.hosts, self.registry, self.servers = hosts, registry, servers
        self.port = 0
        self.service = ""

    def fresh(self) -> None:
        """A service and a port that no test had, no rules, every server alive."""
        self.hosts.proxy.nft("flush ruleset")
        self.hosts.server.nft("flush ruleset")
        for server in self.servers:
            if server.process.poll() is not None:
                server.start()
        self.port = next(PORTS)
        self.service = f"s{self.port}"

    @property
    def to(self) -> Address:
        """Where clients come to."""
        return (self.hosts.proxy.ipv4, self.port)

    def put(self, *servers: Redis, **more: Any) -> None:
        """Have these registered, each under its name."""
        self.registry.write(
            {f"{self.service}/{each.host}": {"host": each.host, "port": REDIS, **more} for each in servers}
        )

    def delete(self, *servers: Redis) -> None:
        """Have these registered no more."""
        self.registry.delete(self.service, *(each.host for each in servers))

    def proxy(self, *options: str, prefix: Iterable[str] = ()) -> KernelProxy:
        """A dynproxy for the test's service."""
        return KernelProxy(self, {self.port: self.service}, *options, prefix=prefix)

    @contextlib.contextmanager
    def serving(self, *servers: Redis, options: Iterable[str] = (), plane: str = "kernel") -> Iterator[KernelProxy]:
        """A dynproxy that serves these."""
        self.put(*servers)
        with self.proxy("--plane", plane, *options) as proxy:
            proxy.wait_serving(self.service, *(each.host for each in servers), plane=plane)
            yield proxy

    def talk(self, to: Address | None = None) -> Talk:
        """A new client."""
        return Talk(self.hosts.client, to or self.to)

    def ask(self, to: Address | None = None) -> str:
        """Who answers a new client."""
        with self.talk(to) as talk:
            return talk.who()

    def answers(self, count: int, to: Address | None = None) -> set[str]:
        """Who answers so many new clients, one after the other."""
        return {self.ask(to) for _ in range(count)}

    def rules(self) -> str:
        """All that the packet filter of the proxy's host holds."""
        return self.hosts.proxy.output("nft", "list", "ruleset")


@contextlib.contextmanager
def kernel_stage(folder: Path) -> Iterator[Stage]:
    """A stage with three servers, numbered from 1."""
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        for tool in ("etcd", "etcdctl"):  # as if they were installed there
            wrapper = folder / tool
            wrapper.write_text(f'#!/bin/sh\nexec {" ".join(hosts.proxy.prefix)} {tool} "$@"\n')
            wrapper.chmod(0o755)
        cluster = stack.enter_context(EtcdCluster(folder / "data", 1, binaries=folder))
        registry = Registry(hosts.proxy, cluster.endpoints[0])
        stack.callback(registry.close)
        servers = [stack.enter_context(Redis(hosts.server, number)) for number in (1, 2, 3)]
        yield Stage(hosts, registry, servers)
