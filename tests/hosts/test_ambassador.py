"""The two-host example of svendowideit/ambassador: its commands as published, the image's name and the dashes excepted.

The images that they name exist nowhere today; stand-ins have their names here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Hosts
from tests.hosts.machine import ROOT, Machine
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.hosts]

PUBLISHED = """
a: docker run -d -name redis crosbymichael/redis
a: docker run -d -link redis:redis -name redis_ambassador -p 6379:6379 svendowideit/ambassador
b: docker run -d -name redis_ambassador -expose 6379 \
    -e REDIS_PORT_6379_TCP=tcp://192.168.1.52:6379 svendowideit/ambassador
"""
UNIT = "simple-amb@redis"
CLIENT = "docker run -i -rm -link redis_ambassador:redis relateiq/redis-cli"  # and -t, where there is a terminal
# That image's own way to its server: by the link's variables.
REDIS_CLI = (
    "FROM etcd-ambassadors/demo-redis\n"
    'ENTRYPOINT ["sh", "-c", "exec redis-cli -h $REDIS_PORT_6379_TCP_ADDR -p $REDIS_PORT_6379_TCP_PORT"]\n'
)


def today(command: str) -> str:
    """The command with two dashes where Docker has asked for two since 2014, and with our image."""
    for word in ("name", "link", "expose", "rm"):
        command = command.replace(f" -{word}", f" --{word}")
    return command.replace("svendowideit/ambassador", "etcd-ambassadors/ambassador")


def everything_gone(host: Machine) -> None:
    host.run("sh", "-c", "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes")


@pytest.fixture
def published(hosts: Hosts) -> Iterator[Hosts]:
    hosts.a.run("docker", "tag", "etcd-ambassadors/demo-redis", "crosbymichael/redis")
    hosts.b.run("sh", "-c", f"printf '%s' '{REDIS_CLI}' | docker build --quiet --tag relateiq/redis-cli -")
    yield hosts
    for host in (hosts.a, hosts.b):
        everything_gone(host)


def test_the_published_commands_give_the_client_its_pong(published: Hosts) -> None:
    machines = {"a": published.a, "b": published.b}
    for line in PUBLISHED.strip().splitlines():
        host, _, command = line.partition(": ")
        machines[host].run("sh", "-c", today(command).replace("192.168.1.52", published.a.address))
    ping = f"echo ping | {today(CLIENT)}"
    eventually(lambda: published.b.run("sh", "-c", ping) == "PONG", 30, "the client gets its PONG")


def test_a_plain_unit_is_wired_by_its_file_alone(published: Hosts) -> None:
    """The example as it is shipped, other addresses excepted: no argument, three variables, one of them for UDP."""
    published.a.run("docker", "run", "-d", "--name", "redis", "-p", "6379:6379", "etcd-ambassadors/demo-redis")
    example = (ROOT / "units/systemd/examples/simple-amb-redis.env").read_text()
    wiring = example.replace("10.0.0.21", published.a.address)
    published.b.write("/etc/etcd-ambassadors/simple-amb-redis.env", wiring)
    published.b.start(UNIT)
    try:
        eventually(lambda: published.b.run("redis-cli", "-h", "127.0.0.1", "ping") == "PONG", 20, "redis answers")
        assert "forwarding 127.0.0.1:5353/udp to 10.0.0.22:53" in published.b.journal(UNIT)
    finally:
        published.b.stop(UNIT)
