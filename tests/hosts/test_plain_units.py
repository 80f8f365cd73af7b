"""The plain units on two hosts: systemctl start, and host B's port 6379 is the redis on host A."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.hosts.conftest import Hosts
from tests.support.programs import status
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.hosts]

CONTAINER = "redis-demo.service"
UNITS_A = ("simple-amb@etcd", "registrar@redis")
UNITS_B = ("simple-amb@etcd", "dynproxy@redis")
LOW_PORTS, NET_ADMIN = 1 << 10, 1 << 12  # CAP_NET_BIND_SERVICE, CAP_NET_ADMIN
DIAL = """
import socket, sys
for _ in range(int(sys.argv[2])):
    try:
        with socket.create_connection((sys.argv[1], 6379), 10) as client:
            client.sendall(b"PING\\r\\n")
            assert client.recv(100) == b"+PONG\\r\\n"
    except (OSError, AssertionError) as error:
        print(repr(error))
"""
QUICK_WATCHDOG = "[Service]\nWatchdogSec=3\n"  # the shipped 30 s would be this test's time


@pytest.fixture(scope="module")
def started(hosts: Hosts) -> Iterator[Hosts]:
    """Every unit started as its README says, in the wrong order: those that need others wait for them."""
    for host in (hosts.a, hosts.b):
        host.write("/etc/etcd-ambassadors/simple-amb-etcd.env", f"ARGS={hosts.etcd}\nAMB_LISTEN=127.0.0.1:10000\n")
        host.write("/etc/systemd/system/registrar@.service.d/quick.conf", QUICK_WATCHDOG)
        host.run("systemctl", "daemon-reload")
    hosts.a.write(
        "/etc/etcd-ambassadors/registrar-redis.env",
        f"ARGS={CONTAINER} 6379 redis-A\nAMB_ETCD=http://127.0.0.1:10000\nAMB_ADMIN=127.0.0.1:9401\n"
        f"AMB_ADVERTISE={hosts.a.address}\n",
    )
    hosts.b.write(
        "/etc/etcd-ambassadors/dynproxy-redis.env",
        f"ARGS=redis-A 6379\nAMB_ETCD=http://127.0.0.1:10000\nAMB_ADMIN={hosts.b.address}:9402\n",
    )
    hosts.b.run("systemctl", "start", "--no-block", "dynproxy@redis")
    hosts.a.run("systemctl", "start", "--no-block", "registrar@redis")
    hosts.a.start("simple-amb@etcd")
    hosts.b.start("simple-amb@etcd")
    hosts.a.run("docker", "run", "--detach", "--name", CONTAINER, "--publish", "6379", "etcd-ambassadors/demo-redis")
    yield hosts
    hosts.a.stop(*UNITS_A)
    hosts.b.stop(*UNITS_B)
    hosts.a.run("docker", "rm", "--force", CONTAINER)


def _ping(hosts: Hosts) -> None:
    assert hosts.b.run("timeout", "15", "redis-cli", "-h", "127.0.0.1", "ping") == "PONG"


def _port(hosts: Hosts) -> int:
    lines = hosts.keys().splitlines()
    assert lines, "no key in etcd"
    assert lines[0] == f"/services/redis-A/{CONTAINER}"
    record = json.loads(lines[1])
    assert record["host"] == hosts.a.address
    return int(record["port"])


def test_a_client_on_host_b_reaches_redis_on_host_a(started: Hosts) -> None:
    eventually(lambda: _port(started), 30, "registrar writes the record")
    _ping(started)


@pytest.mark.parametrize("unit", [*(("a", unit) for unit in UNITS_A), *(("b", unit) for unit in UNITS_B)], ids="@".join)
def test_the_unit_is_ready_and_runs_without_rights(started: Hosts, unit: tuple[str, str]) -> None:
    """Ready by sd_notify, not root, no capability but the one for low ports, and dynproxy's for the packet filter."""
    host = {"a": started.a, "b": started.b}[unit[0]]
    eventually(lambda: host.show(unit[1], "ActiveState") == "active", 20, f"{unit[1]} is ready")
    pid = host.show(unit[1], "MainPID")
    facts = dict(line.split(":\t", 1) for line in host.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert facts["Uid"].split()[0] != "0"
    program = unit[1].partition("@")[0]
    assert (
        int(facts["CapEff"], 16)
        == {"registrar": 0, "simple-amb": LOW_PORTS, "dynproxy": LOW_PORTS | NET_ADMIN}[program]
    )
    assert facts["NoNewPrivs"] == "1"


@pytest.fixture
def drops(started: Hosts) -> Iterator[Hosts]:
    """Host B's forward policy is what Docker makes of it where forwarding was off before Docker came."""
    started.b.run("iptables", "-P", "FORWARD", "DROP")
    yield started
    started.b.run("iptables", "-P", "FORWARD", "ACCEPT")


def test_the_kernel_serves_another_machine_through_dockers_forward_policy(drops: Hosts) -> None:
    """Host A asks host B, which drops what it forwards but for the way that dynproxy made through Docker's rules."""
    eventually(lambda: _service(drops)["plane"] == "kernel", 20, "the kernel serves")
    before = _service(drops)
    assert _dial(drops, 10) == []

    def counted() -> bool:
        service = _service(drops)
        new = service["kernel"]["connections"] - before["kernel"]["connections"]
        of_relay = [item["instances"][0]["connections_total"] for item in (before, service)]
        return bool(new == 10 and of_relay[0] == of_relay[1])

    eventually(counted, 10, "the kernel counts them all, the relay none")


def test_a_restart_of_dynproxy_on_the_kernel_plane_fails_no_connection(started: Hosts) -> None:
    """The rules stay, and the next process goes on from them."""
    eventually(lambda: _service(started)["plane"] == "kernel", 20, "the kernel serves")
    before = started.b.show("dynproxy@redis", "MainPID")
    with ThreadPoolExecutor(1) as beside:
        restarted = beside.submit(started.b.run, "systemctl", "restart", "dynproxy@redis")
        failures = []
        while not restarted.done():
            failures += _dial(started, 200)
        restarted.result()
    assert started.b.show("dynproxy@redis", "MainPID") != before
    assert failures == []


def _service(hosts: Hosts) -> dict[str, Any]:
    services: list[dict[str, Any]] = status(f"{hosts.b.address}:9402")["services"]
    return services[0]


def _dial(hosts: Hosts, times: int) -> list[str]:
    """What went wrong with so many PINGs from host A to host B, a connection each."""
    return hosts.a.run("python3", "-c", DIAL, hosts.b.address, str(times)).splitlines()


def test_systemd_restarts_a_registrar_that_hangs(started: Hosts) -> None:
    """The watchdog's notices come from the event loop: a stopped one misses them, and a new process takes over."""
    before = started.a.show("registrar@redis", "MainPID")
    started.a.run("kill", "-STOP", before)
    eventually(lambda: started.a.show("registrar@redis", "MainPID") not in (before, "0"), 30, "a new registrar")
    eventually(lambda: started.a.show("registrar@redis", "ActiveState") == "active", 20, "registrar is ready")
    eventually(lambda: _port(started), 10, "the record is there")
    _ping(started)


def test_a_redis_that_comes_back_on_another_port_is_followed(started: Hosts) -> None:
    before = _port(started)
    started.a.run("docker", "rm", "--force", CONTAINER)
    started.a.run("docker", "run", "--detach", "--name", CONTAINER, "--publish", "6379", "etcd-ambassadors/demo-redis")
    _ping(started)
    eventually(lambda: _port(started) != before, 10, "the record has the new port")


def test_B6_dockerd_restart_under_systemd_converges(started: Hosts) -> None:
    """Without live-restore the engine's restart takes redis down; it is deregistered, and back when it is started."""
    started.a.run("systemctl", "restart", "docker")
    eventually(lambda: not started.keys(), 15, "the record is gone")
    started.a.run("docker", "start", CONTAINER)
    eventually(lambda: _port(started), 35, "the record is back")
    _ping(started)


def test_stop_is_clean(started: Hosts) -> None:
    """systemctl stop ends every program with exit code 0, and the record goes at once, not with its lease."""
    started.a.stop("registrar@redis")
    assert started.keys() == ""
    started.b.stop(*UNITS_B)
    started.a.stop("simple-amb@etcd")
    for host, units in ((started.a, UNITS_A), (started.b, UNITS_B)):
        for unit in units:
            assert host.show(unit, "Result") == "success"
            assert host.show(unit, "ExecMainStatus") == "0"
