"""grand-ambassador's image in the place of the original's: the commands that its author published, word for word."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.docker_engine import unique
from tests.support.programs import status
from tests.support.waiting import eventually
from tests.system.containers import address, container, docker, image, logs
from tests.system.test_containers import Scene, restarts

pytestmark = [pytest.mark.docker, pytest.mark.system]

SOCKET = ("-v", "/var/run/docker.sock:/var/run/docker.sock")
PLANES = {"relay": (), "kernel": ("--cap-add", "NET_ADMIN")}

# A consumer with a pool of connections, each used all the time and opened again when it is cut. SIGTERM: what it met.
POOL = """
import collections, json, signal, socket, threading, time
met = collections.Counter()
over = threading.Event()
def member(number):
    while not over.is_set():
        try:
            with socket.create_connection(("db", 6379), 30) as connection, connection.makefile("rb") as answers:
                met["connected"] += 1
                while not over.is_set():
                    connection.sendall(b"PING\\r\\n")
                    if answers.readline() != b"+PONG\\r\\n":
                        break
                    met[f"answered {number}"] += 1
                    time.sleep(0.01)
                else:
                    continue
                met["cut"] += 1
        except (ConnectionResetError, BrokenPipeError):
            met["cut"] += 1
        except OSError as error:
            met[type(error).__name__] += 1
            time.sleep(0.01)
signal.signal(signal.SIGTERM, lambda *_: over.set())
signal.signal(signal.SIGUSR1, lambda *_: print(json.dumps(met), flush=True))
for number in range(4):
    threading.Thread(target=member, args=[number], daemon=True).start()
while not over.wait(0.05):
    pass
"""
MEMBERS = [f"answered {number}" for number in range(4)]


class Consumer:
    """The pool in a container that is linked to an ambassador as `db`."""

    def __init__(self, ambassador: str) -> None:
        self._linked = ("--link", f"{ambassador}:db", "--no-healthcheck", "--entrypoint", "python3")

    def __enter__(self) -> Consumer:
        self._block = container(*self._linked, image("dynproxy"), "-c", POOL)
        self.name = self._block.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._block.__exit__(*failure)

    def met(self) -> dict[str, int]:
        """What its members met so far."""
        before = len(logs(self.name).splitlines())

        def account() -> list[str]:
            docker("kill", "-s", "USR1", self.name)  # once may be too early: it has just begun to run
            return logs(self.name).splitlines()[before:]

        lines = eventually(account, 30, "the consumer's account")
        result: dict[str, int] = json.loads(lines[-1])
        return result

    def wait_for_answers(self, seconds: float = 30) -> None:
        """Until every member has had more answers than it has now."""
        before = self.met()
        eventually(lambda: all(self.met().get(each, 0) > before.get(each, 0) for each in MEMBERS), seconds, "answers")


@pytest.fixture(params=PLANES)
def rights(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return PLANES[request.param]


@pytest.fixture
def redis() -> Iterator[str]:
    """A name for a redis, which is removed after the test whatever became of it."""
    name = unique("redis")
    yield name
    subprocess.run(["docker", "rm", "-f", "-v", name], capture_output=True, check=False)


@contextlib.contextmanager
def ambassador_of(name: str, *options: str) -> Iterator[str]:
    """`docker run -d -v /var/run/docker.sock:/var/run/docker.sock --name red-amb IMAGE -name redis`"""
    with container(*SOCKET, *options, image("grand-ambassador"), "-name", name, name=unique("red-amb")) as ambassador:
        try:
            yield ambassador
        except AssertionError as error:
            raise AssertionError(f"{error}\n{logs(ambassador)}") from error


def run_redis(name: str) -> None:
    docker("run", "-d", "--expose", "6379", "--name", name, image("demo-redis"))


def ping(ambassador: str) -> str:
    """`docker run --rm --link red-amb:db redis redis-cli -h db ping`"""
    return docker("run", "--rm", "--link", f"{ambassador}:db", image("demo-redis"), "redis-cli", "-h", "db", "ping")


def test_the_published_commands_work_and_a_pool_meets_no_refusal(redis: str, rights: tuple[str, ...]) -> None:
    """The ambassador first, then redis, its restart, its removal and its re-creation at another address."""
    with ambassador_of(redis, *rights) as ambassador:
        eventually(lambda: "there is no container of this name" in logs(ambassador), 30, "it waits")
        run_redis(redis)
        eventually(lambda: "listening on 6379/tcp" in logs(ambassador), 30, "it listens")
        assert ping(ambassador) == "PONG"
        with Consumer(ambassador) as consumer:
            consumer.wait_for_answers()
            docker("restart", redis)
            consumer.wait_for_answers()
            before = address(redis)
            docker("rm", "-f", redis)
            with contextlib.ExitStack() as others:
                run_redis(redis)
                while address(redis) == before:  # others may have moved in, or somebody has to
                    docker("rm", "-f", redis)
                    others.enter_context(container("--entrypoint", "sleep", image("demo-redis"), "300"))
                    run_redis(redis)
                consumer.wait_for_answers()
                assert ping(ambassador) == "PONG"
                met = consumer.met()
        sys.stdout.write(f"the pool met {met}\n")
        assert met.keys() == {"connected", "cut", *MEMBERS}, logs(ambassador)
        assert met["connected"] > len(MEMBERS), "the connections of a life end with it"


# Gives back each datagram with its own address before it; a client's own port goes on over all lives.
ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("0.0.0.0", 5353))
    name = socket.gethostbyname(socket.gethostname()).encode()
    while True:
        data, client = server.recvfrom(65536)
        server.sendto(name + b" " + data, client)
"""


def test_a_udp_port_is_followed_too_and_a_client_keeps_its_own(rights: tuple[str, ...], redis: str) -> None:
    command = ("--expose", "5353/udp", "--no-healthcheck", "--name", redis, "--entrypoint", "python3")
    with (
        ambassador_of(redis, *rights) as ambassador,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        contextlib.ExitStack() as others,
    ):
        client.settimeout(0.2)
        client.connect((address(ambassador), 5353))
        lives = set[str]()
        while len(lives) < 2:
            docker("run", "-d", *command, image("dynproxy"), "-c", ECHO)
            lives.add(own := address(redis))
            eventually(lambda: _echo(client) == f"{own} hello", 30, f"an answer of {own}")
            docker("rm", "-f", redis)
            others.enter_context(container("--entrypoint", "sleep", image("demo-redis"), "300"))


def _echo(client: socket.socket) -> str:
    with contextlib.suppress(OSError):
        client.send(b"hello")
        return client.recv(100).decode()
    return ""


def test_the_kernel_takes_over_when_the_application_answers_and_the_relay_while_it_does_not(redis: str) -> None:
    """Seen from outside: who serves, by the ambassador's own account."""
    with container(
        *SOCKET, *PLANES["kernel"], image("grand-ambassador"), "-name", redis, "--admin", "0.0.0.0:9402"
    ) as ambassador:
        admin = f"{address(ambassador)}:9402"

        def plane() -> str:
            services = status(admin)["services"]
            assert services, "nothing is exposed yet"
            return str(services[0]["plane"])

        run_redis(redis)
        eventually(lambda: plane() == "kernel", 30, "the kernel serves")
        assert ping(ambassador) == "PONG"
        eventually(lambda: status(admin)["services"][0]["kernel"]["connections"] == 1, 15, "the kernel counts it")
        docker("stop", "-t", "1", redis)
        eventually(lambda: plane() == "relay", 30, "the relay lets clients wait")
        docker("start", redis)
        eventually(lambda: plane() == "kernel", 30, "the kernel serves again")
        assert ping(ambassador) == "PONG"


def test_two_dashes_and_two_containers(redis: str) -> None:
    options = ("--name", redis, "--name=nobody", "-wait=false", "-log-level=warn")
    with container(*SOCKET, image("grand-ambassador"), *options, name=unique("red-amb")) as ambassador:
        run_redis(redis)
        assert eventually(lambda: _pong(ambassador), 30) == "PONG"
        assert "INFO" not in logs(ambassador)


def _pong(ambassador: str) -> str:
    with contextlib.suppress(AssertionError):
        return ping(ambassador)
    return ""


def test_who_waits_for_a_restarted_container_is_answered_within_100_ms(rights: tuple[str, ...]) -> None:
    """The median over fifteen restarts, from the moment that its application listens, through a link's address."""
    with contextlib.ExitStack() as stack:
        scene = Scene(stack.enter_context(_docker()))
        ambassador = stack.enter_context(ambassador_of(scene.name, *rights))
        scene.start(delay=0.2)
        eventually(lambda: "listening on" in logs(ambassador), 30)
        waits = restarts(scene, address(ambassador))
        sys.stdout.write(f"ms from listening to answered: {json.dumps([round(wait * 1000, 1) for wait in waits])}\n")
        assert statistics.median(waits) < 0.1, waits


def _docker() -> Any:
    from tests.support.docker_engine import Docker, need_docker

    need_docker()
    return Docker()


def test_a_command_line_that_names_nobody_is_an_error() -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", image("grand-ambassador")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("grand-ambassador: -name: missing")
