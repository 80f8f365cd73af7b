"""What tests of registrar for a whole host share: the program, and the records of the containers that a test made."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from tests.registrar.scene import ADVERTISED
from tests.support.docker_engine import HOST_SOCKET
from tests.support.etcd_cluster import EtcdCluster
from tests.support.programs import Program
from tests.support.waiting import eventually


def host_registrar(
    etcd: EtcdCluster | str,
    prefix: str,
    *options: str,
    docker: str = HOST_SOCKET,
    ttl: int = 10,
    before: Sequence[str] = (),
) -> Program:
    """`registrar` for all containers, as the host `here`, ready to be started; `before` is a command that runs it."""
    endpoints = etcd if isinstance(etcd, str) else ",".join(etcd.endpoints)
    fixed = ["--etcd", endpoints, "--prefix", prefix, "--docker", docker, "--ttl", str(ttl), "--host-id", "here"]
    there = ["--advertise", ADVERTISED, "--verify", "no"]  # nobody has that address
    return Program("registrar", *fixed, *there, *options, prefix=before)


class HostRecords:
    """The records under a prefix that are of containers with these names: others' may run on the machine, too."""

    def __init__(self, etcd: EtcdCluster, prefix: str, containers: Collection[str]) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self.containers = containers

    def all(self) -> dict[str, dict[str, Any]]:
        """`service/id` -> record, in the order of keys."""
        lines = self._etcd.etcdctl("get", "--prefix", self._prefix).splitlines()
        found = {key.removeprefix(self._prefix): value for key, value in zip(lines[::2], lines[1::2], strict=True)}
        return {key: json.loads(value) for key, value in found.items() if self.of(key) in self.containers}

    @staticmethod
    def of(key: str) -> str:
        """The container of a key that ends with `host:container:port[:udp]`."""
        parts = key.rpartition("/")[2].split(":")
        return parts[1] if len(parts) > 1 else ""

    def registered(self) -> set[str]:
        """The containers that have a record which takes connections."""
        return {self.of(key) for key, record in self.all().items() if "state" not in record}

    def become(self, *keys: str, seconds: float = 10.0) -> dict[str, dict[str, Any]]:
        """The records, as soon as these are all there are."""

        def look() -> dict[str, dict[str, Any]]:
            found = self.all()
            assert sorted(found) == sorted(keys)
            return found

        return eventually(look, seconds, f"the records {sorted(keys)}")

    def are_of(self, containers: Collection[str], seconds: float = 10.0) -> None:
        """Wait until exactly these containers are registered."""

        def look() -> bool:
            found = self.registered()
            missing, strange = sorted(set(containers) - found), sorted(found - set(containers))
            assert (missing[:5], strange[:5], len(missing), len(strange)) == ([], [], 0, 0)
            return True

        eventually(look, seconds, f"records of {len(containers)} containers, and no others")
