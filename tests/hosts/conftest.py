"""The two hosts of the fleet demo, booted once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts.machine import Machine, docker, machines
from tests.support.waiting import eventually

PROGRAMS = ("simple-amb", "ambassador", "registrar", "dynproxy", "grand-ambassador")
DEMO_IMAGES = tuple(f"etcd-ambassadors/{name}" for name in ("demo-redis", *PROGRAMS))


@dataclass(frozen=True, slots=True)
class Hosts:
    """Host A holds redis and, for want of a third machine, etcd; the consumer is on host B."""

    a: Machine
    b: Machine

    @property
    def etcd(self) -> str:
        """Where etcd is, as host:port."""
        return f"{self.a.address}:2379"

    def keys(self) -> str:
        """What etcd holds under the services' prefix: keys and values, a line each."""
        return self.a.run("etcdctl", "--endpoints", f"http://{self.etcd}", "get", "--prefix", "/services/")


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    missing = [image for image in DEMO_IMAGES if not docker("images", "--quiet", image)]
    if missing:
        pytest.fail(f"images missing: {', '.join(missing)}; scripts/images builds them")
    with machines("host-a", "host-b") as (a, b):
        pair = Hosts(a, b)
        urls = f"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379\nETCD_ADVERTISE_CLIENT_URLS=http://{pair.etcd}\n"
        a.write("/etc/default/etcd", urls)
        a.start("etcd", "docker")
        b.start("docker")
        a.load(*DEMO_IMAGES)
        b.load(*DEMO_IMAGES)
        for host in (a, b):
            host.install_units("systemd")
            host.install_units("fleet")
        eventually(lambda: a.succeeds("etcdctl", "endpoint", "health"), 30, "etcd is healthy")
        yield pair
