"""The static ambassador wired by variables alone, as svendowideit/ambassador was: on one host, with Docker's own links.

Two hosts, and the very commands, are `tests/hosts/test_migrating.py`'s and `tests/hosts/test_ambassador.py`'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually
from tests.system.containers import address, container, docker, image, logs

pytestmark = [pytest.mark.docker, pytest.mark.system]

PING = ("timeout", "5", "redis-cli", "-h", "db", "ping")


def client(linked_to: str, *command: str) -> str:
    """What a container with a redis client prints that is linked to another as `db`."""
    return docker("run", "--rm", "--link", f"{linked_to}:db", image("demo-redis"), *command)


def gets_pong(linked_to: str) -> None:
    eventually(lambda: client(linked_to, *PING) == "PONG", 20, logs(linked_to))


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with container(image("demo-redis")) as name:
        yield name


@pytest.fixture(scope="module")
def linked(redis: str) -> Iterator[str]:
    """An ambassador that is told nothing, only linked."""
    with container("--link", f"{redis}:redis", "--expose", "6379", image("ambassador")) as name:
        yield name


def test_a_link_is_all_the_wiring_that_it_needs(linked: str) -> None:
    gets_pong(linked)


def test_a_variable_is_all_the_wiring_that_it_needs(redis: str) -> None:
    """With another local port than the target's, from a read-only file system, without a capability."""
    confined = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    wired = ("--expose", "80", "-e", f"REDIS_PORT_80_TCP=tcp://{address(redis)}:6379")
    with container(*confined, *wired, image("ambassador")) as amb:
        ask = 'exec timeout 5 redis-cli -h "$DB_PORT_80_TCP_ADDR" -p "$DB_PORT_80_TCP_PORT" ping'
        eventually(lambda: client(amb, "sh", "-c", ask) == "PONG", 20, logs(amb))


def test_whoever_is_linked_finds_the_variables_of_the_forwards_and_of_nothing_else(linked: str) -> None:
    """What the ambassador was told itself comes along as `DB_ENV_…`, with Docker's compliments."""
    variables = dict(line.split("=", 1) for line in client(linked, "env").splitlines())
    found = {name: value for name, value in variables.items() if name.startswith("DB_PORT")}
    where = address(linked)
    assert found == {
        "DB_PORT": f"tcp://{where}:6379",
        "DB_PORT_6379_TCP": f"tcp://{where}:6379",
        "DB_PORT_6379_TCP_ADDR": where,
        "DB_PORT_6379_TCP_PORT": "6379",
        "DB_PORT_6379_TCP_PROTO": "tcp",
    }


def test_ambassadors_make_a_chain(redis: str) -> None:
    """The second finds its link's variable and the first one's own, for the same port: it goes by the link."""
    wired = ("--expose", "6379", "-e", f"REDIS_PORT_6379_TCP=tcp://{address(redis)}:6379")
    with (
        container(*wired, image("ambassador")) as first,
        container("--link", f"{first}:redis", "--expose", "6379", image("ambassador")) as second,
    ):
        gets_pong(second)
        assert logs(second) == "INFO simple-amb: forwarding *:6379 to redis:6379\n"
        assert docker("exec", second, "getent", "hosts", "redis").split()[0] == address(first)


def test_the_linked_container_may_come_back_with_another_address() -> None:
    """The variable keeps the address of before; others take it over while the container is down."""
    with (
        container("--restart", "no", image("demo-redis")) as redis,
        container("--link", f"{redis}:redis", "--expose", "6379", image("ambassador")) as amb,
    ):
        gets_pong(amb)
        before = address(redis)
        docker("stop", "--time", "5", redis)
        with contextlib.ExitStack() as others:
            eventually(lambda: f"{before}/" in _taken(others), 30, f"somebody else has {before}")
            docker("start", redis)
            assert address(redis) != before
            docker("exec", redis, "redis-cli", "set", "name", "the right one")
            asks = ("timeout", "5", "redis-cli", "-h", "db", "get", "name")
            eventually(lambda: client(amb, *asks) == "the right one", 20, logs(amb))


def _taken(others: contextlib.ExitStack) -> str:
    """Start another server; every address that is in use then."""
    others.enter_context(container(image("demo-redis")))
    return docker("network", "inspect", "--format", "{{range .Containers}}{{.IPv4Address}} {{end}}", "bridge")


def test_one_that_is_told_nothing_says_what_to_set() -> None:
    with container(image("ambassador")) as amb:
        assert docker("wait", amb) == "2"
        assert "REDIS_PORT_6379_TCP=tcp://HOST:PORT" in logs(amb)
        assert logs(amb).count("\n") == 1


ECHO = "import socket as s; u = s.socket(type=s.SOCK_DGRAM); u.bind(('', 53))\nwhile 1: u.sendto(*u.recvfrom(100))"
ASK = (
    "import os, socket as s; u = s.socket(type=s.SOCK_DGRAM); u.settimeout(2);"
    "u.connect((os.environ['DB_PORT_53_UDP_ADDR'], int(os.environ['DB_PORT_53_UDP_PORT'])));"
    "u.send(b'echo'); print(u.recv(100).decode())"
)


def test_a_link_to_a_udp_port_is_forwarded_likewise() -> None:
    python = ("--entrypoint", "python3", image("ambassador"), "-c")
    with (
        container("--expose", "53/udp", *python, ECHO) as dns,
        container("--link", f"{dns}:dns", "--expose", "53/udp", image("ambassador")) as amb,
    ):
        ask = ("run", "--rm", "--link", f"{amb}:db", *python, ASK)
        assert eventually(lambda: docker(*ask), 20, logs(amb)) == "echo"
