"""The two-host example of svendowideit/ambassador: its commands as published, the image's name and the dashes excepted.

The images that they name exist nowhere today; stand-ins have their names here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Hosts
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.hosts]

PUBLISHED = """
a: docker run -d -name redis crosbymichael/redis
a: docker run -d -link redis:redis -name redis_ambassador -p 6379:6379 svendowideit/ambassador
b: docker run -d -name redis_ambassador -expose 6379 \
    -e REDIS_PORT_6379_TCP=tcp://192.168.1.52:6379 svendowideit/ambassador
"""
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


@pytest.fixture
def published(hosts: Hosts) -> Iterator[Hosts]:
    hosts.a.run("docker", "tag", "etcd-ambassadors/demo-redis", "crosbymichael/redis")
    hosts.b.run("sh", "-c", f"printf '%s' '{REDIS_CLI}' | docker build --quiet --tag relateiq/redis-cli -")
    yield hosts
    for host in (hosts.a, hosts.b):
        host.remove_containers()


def test_the_published_commands_give_the_client_its_pong(published: Hosts) -> None:
    machines = {"a": published.a, "b": published.b}
    for line in PUBLISHED.strip().splitlines():
        host, _, command = line.partition(": ")
        machines[host].run("sh", "-c", today(command).replace("192.168.1.52", published.a.address))
    ping = f"echo ping | {today(CLIENT)}"
    eventually(lambda: published.b.run("sh", "-c", ping) == "PONG", 30, "the client gets its PONG")
