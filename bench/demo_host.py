"""The running demo, as `make figures` sees it: its containers, its etcd, and clients on host B."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NET = os.environ.get("DEMO_NET", "10.210")
ETCD = f"http://{NET}.0.1:2379"
HOST_A = f"{NET}.1.1"
NETWORKS = {"host-a": f"{NET}.1.0/24", "host-b": f"{NET}.2.0/24"}
PREFIX = "amb-figures-"  # of the containers that the measurements make


def docker(*arguments: str) -> str:
    """What a docker command prints; raises CalledProcessError with its complaint shown."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def inspect(container: str) -> dict[str, Any]:
    """A container's inspect document."""
    document: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return document


def network(name: str) -> str:
    """The full name of one of the demo's networks, told by the subnet that it has alone."""
    for line in docker("network", "ls", "--format", "{{.Name}}").splitlines():
        if NETWORKS[name] in docker(
            "network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", line
        ):
            return line
    raise RuntimeError(f"no network has the subnet {NETWORKS[name]}: is the demo running? make demo")


def address(container: str) -> str:
    """A container's address on its first network."""
    networks = inspect(container)["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


def published(container: str, port: int) -> int:
    """The host port at which a container's TCP port is published."""
    return int(docker("port", container, f"{port}/tcp").splitlines()[0].rpartition(":")[2])


@contextlib.contextmanager
def container(name: str, *arguments: str) -> Iterator[str]:
    """`docker run --detach` for the length of a block; yields the container's name."""
    full = PREFIX + name
    with contextlib.suppress(RuntimeError):
        docker("rm", "--force", full)
    docker("run", "--detach", "--name", full, *arguments)
    try:
        yield full
    finally:
        docker("rm", "--force", "--volumes", full)


@contextlib.contextmanager
def redis(name: str) -> Iterator[str]:
    """A redis on host A, published as the demo's own is."""
    with container(
        name, "--network", network("host-a"), "--publish", f"{HOST_A}::6379", "etcd-ambassadors/demo-redis"
    ) as full:
        yield full


@contextlib.contextmanager
def registrar(name: str, of: str, service: str) -> Iterator[str]:
    """A registrar on host A for one container."""
    with container(
        name,
        *("--network", network("host-a"), "--volume", "/var/run/docker.sock:/var/run/docker.sock"),
        *("--env", f"AMB_ETCD={ETCD}", "--env", "AMB_HOST_ID=host-a"),
        *("--env", f"AMB_ADVERTISE={HOST_A}"),
        *("etcd-ambassadors/registrar", of, "6379", service),
    ) as full:
        yield full


@dataclass(frozen=True)
class Proxy:
    """Where a dynproxy listens, and where its admin server does."""

    address: str
    port: int
    admin: str

    def status(self) -> dict[str, Any]:
        """The status of its only service."""
        with urllib.request.urlopen(f"http://{self.admin}/status.json", timeout=5) as answer:
            service: dict[str, Any] = json.load(answer)["services"][0]
        return service

    def wait_instances(self, count: int) -> None:
        """Until it serves exactly so many instances."""

        def reached() -> bool:
            instances = self.status()["instances"]
            return instances is not None and len(instances) == count

        wait_until(reached, 30, f"{count} instances")


@contextlib.contextmanager
def dynproxy(name: str, service: str, *, like_another_host: bool = False) -> Iterator[Proxy]:
    """A dynproxy on host B.

    From one bridge network to another of the same machine a published port is reached through `docker-proxy`, which
    accepts for a container that is dead already. Between real hosts the kernel forwards, as it does for a container
    on the host's own network: that is `like_another_host`.
    """
    port, admin_port = (16379, 19402) if like_another_host else (6379, 9402)
    with container(
        name,
        *("--network", "host" if like_another_host else network("host-b")),
        *("--env", f"AMB_ETCD={ETCD}", "--env", f"AMB_INSTANCES_IN={NETWORKS['host-a']}"),
        *("--env", f"AMB_ADMIN={'127.0.0.1' if like_another_host else '0.0.0.0'}:{admin_port}"),  # noqa: S104
        *("etcd-ambassadors/dynproxy", service, str(port)),
    ) as full:
        where = "127.0.0.1" if like_another_host else address(full)
        yield Proxy(where, port, f"{where}:{admin_port}")


def rss_mib(pid: int) -> float:
    """Resident set of a process in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"process {pid} is a zombie")
    return int(found[1]) / 1024


def tree(pid: int) -> list[int]:
    """The processes started by `pid`, directly."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(reached: Any, seconds: float, what: str) -> Any:
    """The first true value of `reached()`; errors on the way count as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, RuntimeError):
            if value := reached():
                return value
        time.sleep(0.02)
    raise RuntimeError(f"not within {seconds} s: {what}")
