"""dynproxy as a process in front of servers that can be killed, its records written by etcdctl."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from bench.load import Target
from tests.support.etcd_cluster import EtcdCluster
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, status
from tests.support.waiting import eventually

LOCAL = ("--listen", "127.0.0.1", "--instances-in", "127.0.0.0/8")


class Proxy(Program):
    """dynproxy for one service, with its admin server."""

    def __init__(self, etcd: EtcdCluster, service: str, *options: str) -> None:
        self.port, self.service = free_port(), service
        self.target = Target(self.port)
        self.admin = f"127.0.0.1:{free_port()}"
        where = ("--etcd", ",".join(etcd.endpoints), "--admin", self.admin)
        super().__init__("dynproxy", service, str(self.port), *LOCAL, *where, "--drain", "1", *options)

    def instances(self) -> dict[str, dict[str, Any]]:
        """The instances it shows, by id; an AssertionError while it cannot be asked."""
        return {item["id"]: item for item in status(self.admin)["services"][0]["instances"] or []}

    def wait_ready(self) -> None:
        eventually(lambda: fetch(f"http://{self.admin}/readyz")[0] == 200, 10, f"{self.service} ready")

    def wait_instances(self, *names: str, seconds: float = 10) -> None:
        eventually(lambda: sorted(self.instances()) == sorted(names), seconds, f"instances {names}")


class Records:
    """Writes the records of one service by etcdctl, as any other client would."""

    def __init__(self, etcd: EtcdCluster, service: str) -> None:
        self.etcd, self.service = etcd, service

    def put(self, name: str, port: int, host: str = "127.0.0.1", **more: Any) -> None:
        self.raw(name, json.dumps({"host": host, "port": port, **more}))

    def raw(self, name: str, value: str) -> None:
        self.etcd.etcdctl("put", f"/services/{self.service}/{name}", "--", value)

    def delete(self, name: str) -> None:
        self.etcd.etcdctl("del", f"/services/{self.service}/{name}")


@contextlib.contextmanager
def servers(*names: str) -> Iterator[list[NamedServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(NamedServer(name)) for name in names]
