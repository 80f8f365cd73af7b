"""The fleet demo's five units on two hosts, placed by hand where fleet would place them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Hosts
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.hosts]

UNITS_A = ("redis-demo", "etcd-amb-redis", "redis-docker-reg")
UNITS_B = ("etcd-amb-redis2", "redis-dyn-amb")
CONSUMER = ("docker", "run", "--rm", "--link", "redis-dyn-amb.service:redis", "etcd-ambassadors/demo-redis")


@pytest.fixture(scope="module")
def fleet(hosts: Hosts) -> Iterator[Hosts]:
    for host in (hosts.a, hosts.b):
        members = f"REDIS_IMAGE=etcd-ambassadors/demo-redis\nETCD_MEMBERS={hosts.etcd}\n"
        host.write("/etc/etcd-ambassadors/fleet.env", members)
    hosts.a.start(*UNITS_A)
    hosts.b.start(*UNITS_B)
    yield hosts
    hosts.a.stop(*UNITS_A)
    hosts.b.stop(*UNITS_B)


def _pong(fleet: Hosts) -> bool:
    return fleet.b.run(*CONSUMER, "timeout", "15", "redis-cli", "-h", "redis", "ping") == "PONG"


def test_a_linked_consumer_on_host_b_gets_its_pong(fleet: Hosts) -> None:
    """The demo's last step: a container with a redis client, linked to the dynamic ambassador and nothing else."""
    eventually(lambda: _pong(fleet), 30, "the ambassador runs and knows of redis")


def test_the_consumer_finds_the_service_in_its_environment(fleet: Hosts) -> None:
    variables = fleet.b.run(*CONSUMER, "env").splitlines()
    assert any(line.startswith("REDIS_PORT_6379_TCP=tcp://") for line in variables)


def test_the_record_is_named_after_the_unit_and_starts_with_host_and_port(fleet: Hosts) -> None:
    eventually(fleet.keys, 20, "registrar writes the record")
    key, value = fleet.keys().splitlines()
    assert key == "/services/redis-A/redis-demo.service"
    assert list(json.loads(value))[:2] == ["host", "port"]
    assert json.loads(value)["host"] == fleet.a.address


def test_a_new_static_ambassador_takes_its_registrar_along(fleet: Hosts) -> None:
    """Killed, the ambassador comes back with the registrar linked anew, whatever address it has now."""
    before = fleet.a.show("redis-docker-reg", "MainPID")
    fleet.a.run("docker", "kill", "etcd-amb-redis.service")
    eventually(lambda: fleet.a.show("redis-docker-reg", "MainPID") not in (before, "0"), 30, "a new registrar")
    eventually(fleet.keys, 20, "the record is there")
    assert _pong(fleet)
