"""Plain units that stand for the older ambassadors: the examples as they are shipped, with these hosts' addresses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Hosts
from tests.hosts.machine import ROOT, Machine
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.hosts]

REDIS = ("docker", "run", "--detach", "--name", "redis", "--publish", "6379", "etcd-ambassadors/demo-redis")


@pytest.fixture
def empty(hosts: Hosts) -> Iterator[Hosts]:
    yield hosts
    for host in (hosts.a, hosts.b):
        host.run("sh", "-c", "systemctl stop 'simple-amb@*' 'registrar@*' 'grand-ambassador@*'")
        host.remove_containers()
    hosts.a.run("etcdctl", "del", "--prefix", "/services/")


def start(host: Machine, program: str, name: str, **replaced: str) -> None:
    """Start an instance of a unit by its example, with other values for these variables."""
    example = (ROOT / f"units/systemd/examples/{program}-{name}.env").read_text()
    for variable, value in replaced.items():
        lines = [f"{variable}={value}" if line.startswith(f"{variable}=") else line for line in example.splitlines()]
        assert lines != example.splitlines(), f"the example says nothing of {variable}"
        example = "\n".join(lines)
    host.write(f"/etc/etcd-ambassadors/{program}-{name}.env", f"{example}\n")
    host.start(f"{program}@{name}")


def test_simple_amb_is_wired_by_its_file_alone(empty: Hosts) -> None:
    """No argument, three variables, one of them for UDP."""
    empty.a.run(*REDIS[:-2], "6379:6379", REDIS[-1])
    start(empty.b, "simple-amb", "redis", REDIS_PORT_6379_TCP=f"tcp://{empty.a.address}:6379")
    eventually(lambda: empty.b.run("redis-cli", "-h", "127.0.0.1", "ping") == "PONG", 20, "redis answers")
    assert "forwarding 127.0.0.1:5353/udp to 10.0.0.22:53" in empty.b.journal("simple-amb@redis")


def test_registrar_registers_all_containers_of_its_host(empty: Hosts) -> None:
    empty.a.run(*REDIS)
    start(empty.a, "registrar", "host", AMB_ETCD=f"http://{empty.etcd}", AMB_ADVERTISE=empty.a.address)
    found = eventually(empty.keys, 20, "the container is registered")
    assert found.splitlines()[0] == "/services/demo-redis/host-a:redis:6379"


def test_grand_ambassador_is_the_container_on_its_host_s_loopback(empty: Hosts) -> None:
    """Started before the container is there; its user is nobody that anybody knows, in Docker's group."""
    start(empty.a, "grand-ambassador", "redis")
    empty.a.run(*REDIS)
    ping = ("timeout", "10", "redis-cli", "-h", "127.0.0.1", "ping")
    eventually(lambda: empty.a.run(*ping) == "PONG", 20, "redis answers")


def test_systemd_listens_for_simple_amb_before_it_ran(empty: Hosts) -> None:
    """By the example's socket unit: the first client starts the program and is served by it."""
    empty.a.run(*REDIS[:-2], "6379:6379", REDIS[-1])
    example = (ROOT / "units/systemd/examples/simple-amb@etcd.socket").read_text()
    empty.b.write("/etc/systemd/system/simple-amb@etcd.socket", example)
    empty.b.write(
        "/etc/etcd-ambassadors/simple-amb-etcd.env", f"ARGS={empty.a.address}:6379\nAMB_LISTEN=127.0.0.1:10000\n"
    )
    empty.b.run("systemctl", "daemon-reload")
    empty.b.run("systemctl", "start", "simple-amb@etcd.socket")
    try:
        assert empty.b.show("simple-amb@etcd", "ActiveState") == "inactive"
        assert empty.b.run("timeout", "20", "redis-cli", "-h", "127.0.0.1", "-p", "10000", "ping") == "PONG"
    finally:
        empty.b.run("systemctl", "stop", "simple-amb@etcd.socket")
        empty.b.run("rm", "/etc/systemd/system/simple-amb@etcd.socket")
        empty.b.run("systemctl", "daemon-reload")
