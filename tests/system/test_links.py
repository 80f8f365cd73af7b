"""The fleet demo by hand: `docker run --link` with the arguments of the original units, and nothing else."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.waiting import eventually
from tests.system.containers import address, container, docker, exists, image, logs

pytestmark = [pytest.mark.docker, pytest.mark.system]

REDIS = "redis-demo.service"
KEY = f"/services/redis-A/{REDIS}"
DOCKER_SOCKET = "/var/run/docker.sock:/var/run/docker.sock"


def _host_address() -> str:
    """This machine's address as others see it, which is where the original unit publishes redis: the source address
    of its default route. Connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@dataclass(frozen=True, slots=True)
class Demo:
    """The containers of the demo, by name."""

    etcd: str
    registrar: str
    dynproxy: str

    def record(self) -> str:
        return docker("exec", self.etcd, "etcdctl", "get", "--print-value-only", KEY)

    def consumer(self, *command: str) -> str:
        """A container linked to the dynamic ambassador as `redis`."""
        return docker("run", "--rm", "--link", f"{self.dynproxy}:redis", image("demo-redis"), *command)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    if exists(REDIS):
        pytest.fail(f"a container is called {REDIS} already; if it is the demo's: make demo-down")
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        anywhere = "http://0.0.0.0:2379"
        listen = ("--listen-client-urls", anywhere, "--advertise-client-urls", anywhere)
        etcd = start(container(image("demo-etcd"), *listen))
        amb = start(container(image("simple-amb"), f"{address(etcd)}:2379"))
        registrar = start(
            container("--link", f"{amb}:etcd", "-v", DOCKER_SOCKET, image("registrar"), REDIS, "6379", "redis-A")
        )
        dynproxy = start(container("--link", f"{amb}:etcd", "--expose", "6379", image("dynproxy"), "redis-A", "6379"))
        # Last of all: registrar and dynproxy wait for what is not there yet.
        start(container("-p", f"{_host_address()}::6379", image("demo-redis"), name=REDIS))
        yield Demo(etcd, registrar, dynproxy)


def test_registrar_finds_etcd_by_its_link_and_writes_host_and_port_first(demo: Demo) -> None:
    value = eventually(demo.record, 15, logs(demo.registrar))
    assert list(json.loads(value))[:2] == ["host", "port"]
    published = docker("port", REDIS, "6379/tcp")
    assert published == "{host}:{port}".format(**json.loads(value))


def test_a_linked_client_gets_its_pong(demo: Demo) -> None:
    ping = ("timeout", "15", "redis-cli", "-h", "redis", "ping")
    eventually(lambda: demo.consumer(*ping) == "PONG", 15, logs(demo.dynproxy))


def test_the_link_tells_the_client_where_the_service_is(demo: Demo) -> None:
    assert f"REDIS_PORT_6379_TCP=tcp://{address(demo.dynproxy)}:6379" in demo.consumer("env").splitlines()


def test_stopping_registrar_takes_the_record_back(demo: Demo) -> None:
    docker("stop", demo.registrar)
    assert demo.record() == ""
