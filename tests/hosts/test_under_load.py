"""Three instances on host A, a client on host B that never stops: what it notices of what happens to host A."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts.conftest import Hosts
from tests.hosts.load import RATE, Load, load_on, many_connections, strangers_from
from tests.support.programs import fetch, status
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.hosts]

NAMES = ("redis-1", "redis-2", "redis-3")
REGISTRARS = tuple(f"registrar@{name}" for name in NAMES)
# Told to end, one serves for five seconds more, as pain 16 has it, and one for half a second, time enough for the news
# to be everywhere. Redis by itself looks every 100 ms whether it was told, and is gone by then.
LINGERS = "redis-server --save '' --protected-mode no & trap \"sleep {}; kill $!; wait\" TERM; wait"
LIVES = (("sh", "-c", LINGERS.format(5)), ("sh", "-c", LINGERS.format(0.5)), ())
ESTABLISHED = 6

# Told by the kernel when the process has ended, not by Docker, which says so a little later.
END = """
import os, select, subprocess, sys, time
process = os.pidfd_open(int(sys.argv[1]))
docker = subprocess.Popen(["docker", *sys.argv[2:]], stdout=subprocess.DEVNULL)
select.select([process], [], [])
print(time.monotonic())
sys.exit(docker.wait())
"""


@pytest.fixture(scope="module")
def three(hosts: Hosts) -> Iterator[Hosts]:
    """Three redis with a registrar each, behind a dynproxy on the other host."""
    for host in (hosts.a, hosts.b):
        host.write("/etc/etcd-ambassadors/simple-amb-etcd.env", f"ARGS={hosts.etcd}\nAMB_LISTEN=127.0.0.1:10000\n")
        host.start("simple-amb@etcd")
    for name, command in zip(NAMES, LIVES, strict=True):
        run = ("run", "--detach", "--name", name, "--publish", "6379", "etcd-ambassadors/demo-redis", *command)
        hosts.a.run("docker", *run)
        settings = f"ARGS={name} 6379 redis-A\nAMB_ETCD=http://127.0.0.1:10000\nAMB_ADVERTISE={hosts.a.address}\n"
        hosts.a.write(f"/etc/etcd-ambassadors/registrar-{name}.env", settings)
    hosts.b.write(
        "/etc/etcd-ambassadors/dynproxy-redis.env",
        # The relay, which counts the connections of every instance.
        f"ARGS=redis-A 6379\nAMB_ETCD=http://127.0.0.1:10000\nAMB_ADMIN={hosts.b.address}:9402\nAMB_PLANE=relay\n",
    )
    hosts.a.start(*REGISTRARS)
    hosts.b.start("dynproxy@redis")
    yield hosts
    hosts.b.stop("dynproxy@redis", "simple-amb@etcd")
    hosts.a.stop(*REGISTRARS, "simple-amb@etcd")
    hosts.a.run("docker", "rm", "--force", *NAMES)


def _instances(hosts: Hosts) -> dict[str, dict[str, Any]]:
    """What dynproxy says of the instances it has, by name."""
    return {item["id"]: item for item in status(f"{hosts.b.address}:9402")["services"][0]["instances"]}


def _all_serve(hosts: Hosts) -> bool:
    return [item["state"] for item in _instances(hosts).values()] == ["up"] * len(NAMES)


@contextlib.contextmanager
def _load(hosts: Hosts) -> Iterator[Load]:
    """The load on all three, whatever became of them before; it goes on for a second after the block."""
    hosts.a.run("docker", "start", *NAMES)
    eventually(lambda: _all_serve(hosts), 20, "dynproxy has three instances")
    with load_on(hosts.b, 6379) as load:
        assert all(item["connections_total"] for item in _instances(hosts).values())
        yield load
        load.more(RATE)


def _ping(client: socket.socket) -> None:
    client.sendall(b"PING\r\n")
    assert client.recv(100) == b"+PONG\r\n"


def test_pain_16_stop_of_an_instance_fails_no_connection_and_cuts_none(three: Hosts) -> None:
    """It serves on for five seconds after SIGTERM: time enough for everybody to go elsewhere, and those it has stay."""
    with _load(three) as load, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((three.b.address, 6379), 10)) for _ in range(ESTABLISHED)
        ]
        for client in clients:
            _ping(client)
        eventually(lambda: _instances(three)[NAMES[0]]["connections"] >= 1, 5, "it has some of them")
        three.a.run("sh", "-c", f"docker stop {NAMES[0]} >/tmp/stopped 2>&1 &")
        eventually(lambda: _instances(three)[NAMES[0]]["state"] == "draining", 3, "the record says that it ends")
        load.more(2 * RATE)  # figures are a second old at most
        taken = _instances(three)[NAMES[0]]["connections_total"]
        load.more(RATE)
        for client in clients:
            _ping(client)
        assert _instances(three)[NAMES[0]]["connections_total"] == taken
        for client in clients:
            client.close()
        eventually(lambda: NAMES[0] not in _instances(three), 8, "it has ended")
    assert load.failures == []


def test_stop_of_an_instance_that_serves_for_half_a_second_fails_no_connection(three: Hosts) -> None:
    """By then its record has crossed etcd and reached the other host."""
    with _load(three) as load:
        three.a.run("docker", "stop", NAMES[1])
        eventually(lambda: NAMES[1] not in _instances(three), 2, "its record is gone")
    assert load.failures == []


@pytest.mark.parametrize("how", [("stop",), ("kill", "--signal", "KILL")], ids=["stop", "kill"])
def test_C1_backend_kill_fails_no_connection_begun_after_the_death(three: Hosts, how: tuple[str, ...]) -> None:
    """Redis that is told to end just before it looks ends with what it has open, before anybody can know."""
    with _load(three) as load:
        pid = three.a.run("docker", "inspect", "--format", "{{.State.Pid}}", NAMES[2])
        died = float(three.a.run("python3", "-c", END, pid, *how, NAMES[2]))
        eventually(lambda: NAMES[2] not in _instances(three), 2, "its record is gone")
    assert [(begun - died, why) for begun, why in load.failures if begun > died] == []
    assert len(load.failures) <= 5  # those it had open; a PING takes a millisecond or two


def test_restarts_of_registrar_and_simple_amb_fail_no_connection(three: Hosts) -> None:
    with _load(three) as load:
        for host, unit in ((three.a, REGISTRARS[0]), (three.a, "simple-amb@etcd"), (three.b, "simple-amb@etcd")):
            before = host.show(unit, "MainPID")
            host.run("systemctl", "restart", unit)
            assert host.show(unit, "MainPID") != before
            load.more(RATE)
        eventually(lambda: _all_serve(three), 10, "all is as before")
    assert load.failures == []


def test_C6_restarts_of_dynproxy_fail_no_connection(three: Hosts, figure: Callable[[str], None]) -> None:
    """Systemd keeps its sockets meanwhile: whoever comes between two processes waits for the second."""
    with _load(three) as load:
        for _ in range(3):
            before = three.b.show("dynproxy@redis", "MainPID")
            three.b.run("systemctl", "restart", "dynproxy@redis")
            assert three.b.show("dynproxy@redis", "MainPID") != before
            load.more(RATE)
        eventually(lambda: _all_serve(three), 10, "all is as before")
    assert load.failures == []
    figure(f"relay, 3 restarts of the unit: {len(load.failures)} failed of {load.total} connections")


VERSION_FILE = "/opt/etcd-ambassadors/lib/python3*/site-packages/ambcore/version.py"


@pytest.mark.long
@pytest.mark.parametrize("plane", ["kernel", "relay"])
def test_C6_twenty_upgrades_at_1000_a_second(three: Hosts, plane: str, figure: Callable[[str], None]) -> None:
    """By restarts of the unit, each with another version of the package on disk than the one before."""
    settings = "/etc/etcd-ambassadors/dynproxy-redis.env"
    three.b.run("sed", "-i", f"s/AMB_PLANE=.*/AMB_PLANE={plane}/", settings)
    three.b.run("sh", "-c", f"cp {VERSION_FILE} /tmp/version.py")
    three.b.run("systemctl", "restart", "dynproxy@redis")
    try:
        three.a.run("docker", "start", *NAMES)
        eventually(lambda: _serves(three, plane), 60, f"the {plane} serves three instances")
        many_connections(three.b)
        with strangers_from(three.a, three.b.address, 6379, 1000) as load:
            for number in range(20):
                three.b.run("sh", "-c", f"echo 'VERSION = \"9.0.{number}\"' >$(echo {VERSION_FILE})")
                three.b.run("systemctl", "restart", "dynproxy@redis", seconds=120)
                assert f'version="9.0.{number}"' in fetch(f"http://{three.b.address}:9402/metrics")[1]
        figure(f"{plane}, 20 upgrades by restarts of the unit: {load}")
        assert load.errors == {}
    finally:
        three.b.run("sh", "-c", f"cat /tmp/version.py >$(echo {VERSION_FILE})")
        three.b.run("sed", "-i", "s/AMB_PLANE=.*/AMB_PLANE=relay/", settings)
        three.b.run("systemctl", "restart", "dynproxy@redis", seconds=120)


def _serves(hosts: Hosts, plane: str) -> bool:
    shown = status(f"{hosts.b.address}:9402")["services"][0]["plane"] == plane
    return shown and _all_serve(hosts)
