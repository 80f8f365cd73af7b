"""The kernel plane in containers: with CAP_NET_ADMIN and no other right, and without even that.

Which way a connection went is told by the counters: the kernel counts its own, and the relay does.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.programs import status
from tests.support.waiting import eventually
from tests.system.containers import address, container, docker, image, logs

pytestmark = [pytest.mark.docker, pytest.mark.system]

SERVICE, PORT, ADMIN = "redis-A", 6379, 9402
INSTANCES = ("one", "two")
CONFINED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PUBLISHED = ("-p", f"127.0.0.1::{PORT}", "-p", f"127.0.0.1::{ADMIN}")
NO_RIGHT = "no CAP_NET_ADMIN: run with --cap-add NET_ADMIN"
DIALS = 6

# A redis client of a dozen lines for where there is none: asks as often as told which instance answers.
ASK = """
import socket, sys
for _ in range(int(sys.argv[3])):
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as client:
        client.sendall(b"GET instance\\r\\n")
        with client.makefile() as answer:
            answer.readline()
            print(answer.readline(), end="")
"""


@pytest.fixture(scope="module")
def etcd() -> Iterator[str]:
    """Where etcd is, with two redis in it that know their names."""
    anywhere = "http://0.0.0.0:2379"
    with contextlib.ExitStack() as stack:
        listen = ("--listen-client-urls", anywhere, "--advertise-client-urls", anywhere)
        etcd = stack.enter_context(container(image("demo-etcd"), *listen))
        for name in INSTANCES:
            redis = stack.enter_context(container(image("demo-redis")))
            record = f'{{"host": "{address(redis)}", "port": 6379}}'
            key = f"/services/{SERVICE}/{name}"
            eventually(lambda: docker("exec", redis, "redis-cli", "set", "instance", name), 30)  # noqa: B023
            eventually(lambda: docker("exec", etcd, "etcdctl", "put", key, "--", record), 30)  # noqa: B023
        yield f"http://{address(etcd)}:2379"


@dataclass(frozen=True, slots=True)
class Ambassador:
    """A dynproxy in a container; `admin` is where it is asked for its state."""

    name: str
    admin: str

    def service(self) -> dict[str, Any]:
        services: list[dict[str, Any]] = status(self.admin)["services"]
        return services[0]

    def plane(self) -> str:
        """Who serves, once it serves."""

        def known() -> str | None:
            service = self.service()
            up = [item["id"] for item in service["instances"] or [] if item["state"] == "up"]
            settled = sorted(up) == sorted(INSTANCES) and "not known yet" not in service["plane_why"]
            return str(service["plane"]) if settled else None

        answer = eventually(known, 30, "both instances are known")
        assert answer
        return answer

    def carried(self) -> Counter[str]:
        """Connections so far, by who carried them; the relay's figures are a second old at most."""
        service = self.service()
        return Counter(
            kernel=service["kernel"]["connections"],
            relay=sum(item["connections_total"] for item in service["instances"]),
        )


@contextlib.contextmanager
def ambassador(etcd: str, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[Ambassador]:
    """One with its ports published on the host's loopback."""
    command = (*arguments, "--etcd", etcd, "--admin", f"0.0.0.0:{ADMIN}", SERVICE, str(PORT))
    with container(*options, *PUBLISHED, image("dynproxy"), *command) as name:
        try:
            yield Ambassador(name, docker("port", name, str(ADMIN)))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{logs(name)}") from error


def linked(amb: Ambassador) -> Counter[str]:
    """Who answers a consumer that knows nothing but a link's name."""
    ask = f"for _ in $(seq {DIALS}); do redis-cli -h redis get instance; done"
    return Counter(docker("run", "--rm", "--link", f"{amb.name}:redis", image("demo-redis"), "sh", "-c", ask).split())


def published(amb: Ambassador) -> Counter[str]:
    """Who answers a client on the host, at the port that Docker publishes."""
    host, port = docker("port", amb.name, str(PORT)).split(":")
    return _ask("python3", host, port)


def inside(amb: Ambassador) -> Counter[str]:
    """Who answers a process in the ambassador's own container, on its loopback."""
    return Counter(docker("exec", amb.name, "python3", "-c", ASK, "127.0.0.1", str(PORT), str(DIALS)).split())


def _ask(python: str, host: str, port: str) -> Counter[str]:
    command = [python, "-c", ASK, host, port, str(DIALS)]
    return Counter(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())


def _says(amb: Ambassador, before: Counter[str], kernel: int, relay: int) -> None:
    """Wait until the ambassador says that so many more connections went either way."""
    expected = before + Counter(kernel=kernel, relay=relay)
    eventually(lambda: amb.carried() == expected, 10, f"{expected}, but it is {amb.carried()}")


@pytest.mark.parametrize(
    "rights", [(*CONFINED, "--cap-add", "NET_ADMIN"), ("--cap-add", "NET_ADMIN")], ids=["confined", "default"]
)
def test_with_net_admin_the_kernel_serves_links_and_published_ports_and_the_relay_loopback(
    etcd: str, rights: tuple[str, ...]
) -> None:
    both = Counter(dict.fromkeys(INSTANCES, DIALS // 2))
    with ambassador(etcd, *rights) as amb:
        assert amb.plane() == "kernel"
        assert amb.service()["plane_why"].startswith("the kernel forwards IPv4")
        for ask, kernel, relay in ((linked, DIALS, 0), (published, DIALS, 0), (inside, 0, DIALS)):
            before = amb.carried()
            assert ask(amb) == both
            _says(amb, before, kernel, relay)


@pytest.mark.parametrize(
    "rights", [CONFINED, ("--user", "10001", "--cap-add", "NET_ADMIN")], ids=["without", "another-user"]
)
def test_without_net_admin_the_relay_serves_all_of_them_and_says_why(etcd: str, rights: tuple[str, ...]) -> None:
    """Docker gives a user who is not root none of the capabilities that it adds."""
    with ambassador(etcd, *rights) as amb:
        assert amb.plane() == "relay"
        assert status(amb.admin)["plane"]["why"] == NO_RIGHT
        for ask in (linked, published, inside):
            before = amb.carried()
            assert set(ask(amb)) == set(INSTANCES)
            _says(amb, before, 0, DIALS)


def test_a_kernel_that_is_insisted_on_and_cannot_be_had_is_an_error_of_the_command_line() -> None:
    command = ["docker", "run", "--rm", *CONFINED, image("dynproxy"), "--plane", "kernel", SERVICE, str(PORT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"--plane: the kernel cannot: {NO_RIGHT}")


@pytest.fixture
def clean_host(etcd: str) -> Iterator[None]:
    """No rule of ours on this machine before, and none after, whatever happens in between."""
    _clean_up()
    assert _ours() == []
    yield
    _clean_up()


def test_rules_of_a_container_are_in_its_own_network_alone(etcd: str, clean_host: None) -> None:
    with ambassador(etcd, *CONFINED, "--cap-add", "NET_ADMIN") as amb:
        assert amb.plane() == "kernel"
        assert "ambassador_" in docker("exec", amb.name, "nft", "list", "tables")
        assert _ours() == []


def test_on_the_hosts_network_rules_outlive_a_killed_dynproxy_and_cleanup_removes_every_one(
    etcd: str, clean_host: None
) -> None:
    """Beside Docker's own rules, whose forward policy is drop; clients are containers that ask the host."""
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    chain = _host("iptables", "-S", "DOCKER-USER")
    command = (image("dynproxy"), "--etcd", etcd, "--admin", admin, SERVICE, str(port))
    both = Counter(dict.fromkeys(INSTANCES, DIALS // 2))
    with (
        container("--network", "host", "--cap-add", "NET_ADMIN", *command) as name,
        container("--entrypoint", "sleep", image("dynproxy"), "300") as client,
    ):
        gateway = docker("inspect", "--format", "{{.NetworkSettings.Gateway}}", client)
        asked = ("exec", client, "python3", "-c", ASK, gateway, str(port), str(DIALS))
        amb = Ambassador(name, admin)
        try:
            assert amb.plane() == "kernel"
            before = amb.carried()
            assert Counter(docker(*asked).split()) == both
            _says(amb, before, DIALS, 0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{logs(name)}") from error
        assert "ambassador_door" in _host("iptables", "-S", "DOCKER-USER")
        docker("kill", name)
        assert _ours()
        assert Counter(docker(*asked).split()) == both
        with container("--network", "host", "--cap-add", "NET_ADMIN", *command) as successor:
            eventually(lambda: "goes on from 2 endpoints" in logs(successor), 20, "the next one takes over")
            assert Ambassador(successor, admin).plane() == "kernel"
            assert Counter(docker(*asked).split()) == both
            docker("kill", successor)
        assert "removed: ip ambassador_" in _clean_up()
    assert _ours() == []
    assert _host("iptables", "-S", "DOCKER-USER") == chain


def _host(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def _ours() -> list[str]:
    """Our tables on the host, listed by the nft that wrote them: an older one crashes on a newer one's sets."""
    on_the_host = ("run", "--rm", "--network", "host", "--cap-add", "NET_ADMIN")
    listed = docker(*on_the_host, "--entrypoint", "nft", image("dynproxy"), "list", "tables")
    return [line for line in listed.splitlines() if "ambassador_" in line]


def _clean_up() -> str:
    return docker("run", "--rm", "--network", "host", "--cap-add", "NET_ADMIN", image("dynproxy"), "--cleanup")
