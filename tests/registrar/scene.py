"""What tests of the whole registrar share: the program, the records in etcd, and everything that happened to them."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.docker_engine import HOST_SOCKET
from tests.support.etcd_cluster import EtcdCluster
from tests.support.programs import Program
from tests.support.waiting import eventually

ADVERTISED = "10.1.2.3"
SERVICE = "redis-A"


def registrar(
    etcd: EtcdCluster | str, prefix: str, container: str, *options: str, docker: str = HOST_SOCKET, ttl: int = 10
) -> Program:
    """`registrar CONTAINER 80 redis-A`, ready to be started."""
    endpoints = etcd if isinstance(etcd, str) else ",".join(etcd.endpoints)
    fixed = ["--etcd", endpoints, "--prefix", prefix, "--docker", docker, "--ttl", str(ttl)]
    there = ["--advertise", ADVERTISED, "--verify", "no"]  # nobody has that address
    return Program("registrar", container, "80", SERVICE, *fixed, *there, *options)


class Records:
    """The records under a prefix, as etcdctl reads them."""

    def __init__(self, etcd: EtcdCluster, prefix: str) -> None:
        self._etcd = etcd
        self._prefix = prefix

    def all(self) -> dict[str, dict[str, Any]]:
        """Every record of the service, by instance id."""
        lines = self._etcd.etcdctl("get", "--prefix", f"{self._prefix}{SERVICE}/").splitlines()
        return {key.rpartition("/")[2]: json.loads(value) for key, value in zip(lines[::2], lines[1::2], strict=True)}

    def get(self, instance: str) -> dict[str, Any] | None:
        return self.all().get(instance)

    def appears(self, instance: str, seconds: float = 10.0, **expected: object) -> dict[str, Any]:
        """The record, as soon as it is there with these values; a value None stands for "not in the record"."""

        def look() -> dict[str, Any] | None:
            found = self.get(instance)
            assert found is not None, "no record"
            assert {name: found.get(name) for name in expected} == expected
            return found

        found = eventually(look, seconds, f"record of {instance} with {expected}")
        assert found is not None
        return found

    def vanishes(self, instance: str, seconds: float = 10.0) -> None:
        eventually(lambda: self.get(instance) is None, seconds, f"no record of {instance}")


@dataclass(frozen=True)
class Change:
    """One event of etcd's own history; `when` is when etcdctl printed it (time.time())."""

    kind: str
    instance: str
    record: dict[str, Any]
    when: float

    def __str__(self) -> str:
        return f"{self.kind} {self.instance} {self.record}"


class Watched:
    """Every change under a prefix from now on, told by `etcdctl watch`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.changes: list[Change] = []
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for event in json.loads(line).get("Events") or ():
                self.changes.append(_change(event))

    def deletes(self) -> list[Change]:
        return [change for change in self.changes if change.kind == "DELETE"]

    def puts(self) -> list[Change]:
        return [change for change in self.changes if change.kind == "PUT"]

    def put_with(self, **expected: object) -> Change:
        """The first put of a record with these values, waited for."""

        def look() -> Change | None:
            return next((put for put in self.puts() if expected.items() <= put.record.items()), None)

        found = eventually(look, what=f"a put with {expected}")
        assert found is not None
        return found

    def summary(self) -> list[str]:
        """`up`, `draining`, `DELETE`, in the order of events."""
        return [change.record.get("state", "up") if change.kind == "PUT" else change.kind for change in self.changes]

    def until(self, *summary: str) -> None:
        """Wait until so many changes were told; fails if they are not these."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: len(self.changes) >= len(summary), 5)
        assert self.summary() == [*summary]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _change(event: dict[str, Any]) -> Change:
    pair = event["kv"]
    value = base64.b64decode(pair.get("value", "")).decode()
    return Change(
        kind="DELETE" if event.get("type") == 1 else "PUT",
        instance=base64.b64decode(pair["key"]).decode().rpartition("/")[2],
        record=json.loads(value) if value.startswith("{") else {},
        when=time.time(),
    )


@contextlib.contextmanager
def watched(etcd: EtcdCluster, prefix: str) -> Iterator[Watched]:
    """Watch while the block runs. Starts at the revision after now, so nothing written in the block is missed."""
    revision = etcd.etcdctl_json("get", "/nothing")["header"]["revision"]
    command: Sequence[str] = ["etcdctl", "watch", "--prefix", prefix, "--rev", str(revision + 1), "-w", "json"]
    process = subprocess.Popen(
        command, env=dict(etcd.etcdctl_environment(etcd.endpoints)), stdout=subprocess.PIPE, text=True
    )
    watch = Watched(process)
    try:
        yield watch
    finally:
        watch.end()
