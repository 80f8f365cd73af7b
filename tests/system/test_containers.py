"""dynproxy --container on a real Docker: the listener stays, whatever becomes of the container behind it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_engine import Docker
from tests.support.docker_engine import docker as docker  # noqa: PLC0414 - a fixture
from tests.support.lives import SERVER, ask, ask_until
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, status
from tests.support.waiting import eventually
from tests.system.containers import image

pytestmark = [pytest.mark.docker, pytest.mark.system]

LOCAL = ("--listen", "127.0.0.1", "--drain", "1")
PYTHON = ("--entrypoint", "python3", image("dynproxy"), "-c", SERVER)


class Ambassador(Program):
    """dynproxy for containers, on this machine's loopback, with its admin server."""

    def __init__(self, *names: str, options: tuple[str, ...] = ()) -> None:
        self.admin = f"127.0.0.1:{free_port()}"
        each = [word for name in names for word in ("--container", name)]
        super().__init__("dynproxy", *each, *LOCAL, "--admin", self.admin, *options)

    def services(self) -> dict[str, dict[str, Any]]:
        """By name; an AssertionError while it cannot be asked."""
        return {item["name"]: item for item in status(self.admin)["services"]}

    def address(self, service: str) -> str | None:
        """Where the service's only instance is; None without one."""
        known = self.services().get(service)
        assert known, "it is not followed yet"
        return str(known["instances"][0]["address"]) if known["instances"] else None

    def wait_ready(self) -> None:
        eventually(lambda: fetch(f"http://{self.admin}/readyz")[0] == 200, 20, "ready")

    def wait_for_instance(self, service: str, address: str | None) -> None:
        eventually(lambda: self.address(service) == address, 20, f"{service} at {address}: {self.log[-2000:]}")


class Scene:
    """Containers with a server in each, on a port of the test's own."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.port = free_port()
        self.name = docker.name("lives")
        self.service = f"{self.name}:{self.port}"

    def start(self, *options: str, name: str = "", delay: float = 0.0) -> None:
        """`docker run -d` of a server that listens after a delay."""
        where = ("--name", name or self.name, "--expose", str(self.port), *(options or ["--no-healthcheck"]))
        self.docker("run", "-d", *where, *PYTHON, str(self.port), str(delay))

    def ip(self, network: str = "bridge") -> str:
        networks = self.docker.inspect(self.name)["NetworkSettings"]["Networks"]
        return str(networks[network]["IPAddress"])

    @property
    def at(self) -> str:
        """Where it is on the default bridge."""
        return f"{self.ip()}:{self.port}"

    def answers(self) -> bool:
        return ask("127.0.0.1", self.port) is not None


@pytest.fixture
def scene(docker: Docker) -> Scene:
    return Scene(docker)


@pytest.fixture
def ambassador(scene: Scene) -> Iterator[Ambassador]:
    with Ambassador(scene.name) as amb:
        yield amb


def test_it_waits_for_a_container_that_does_not_exist_yet_and_follows_all_its_lives(
    scene: Scene, ambassador: Ambassador
) -> None:
    """Created, started, restarted, removed, and made anew with another address; asked through one port all the time."""
    ambassador.wait_ready()
    assert ambassador.services() == {}
    assert status(ambassador.admin)["docker"]["containers"] == [{"name": scene.name, "exists": False}]
    scene.start()
    ambassador.wait_for_instance(scene.service, scene.at)
    assert scene.answers()
    began = time.monotonic()
    with waiting(scene, began) as answer:
        scene.docker("restart", "-t", "1", scene.name)
    assert answer[0].since > began
    before = scene.at
    scene.docker("rm", "-f", scene.name)
    ambassador.wait_for_instance(scene.service, None)
    with waiting(scene, time.monotonic()):
        scene.start()
        while scene.at == before:  # others may have moved in, or somebody has to
            scene.docker("rm", "-f", scene.name)
            scene.docker.run()
            scene.start()
    ambassador.wait_for_instance(scene.service, scene.at)


def test_it_lives_and_waits_while_docker_is_away_from_the_start(tmp_path: Path) -> None:
    with Ambassador("redis", options=("--docker", f"unix://{tmp_path}/docker.sock")) as amb:
        eventually(lambda: fetch(f"http://{amb.admin}/healthz")[0] == 200, 10, "it is healthy")
        code, why = fetch(f"http://{amb.admin}/readyz")
        assert (code, "No such file" in why) == (503, True), why
        assert status(amb.admin)["docker"]["connected"] is False
        assert amb.stop() == 0
        assert len([line for line in amb.lines if "docker is away" in line]) == 1


@contextlib.contextmanager
def waiting(scene: Scene, after: float) -> Iterator[list[Any]]:
    """A client that waits during the block for a life that began after a moment; it must be answered soon after."""
    answers: list[Any] = []

    def wait() -> None:
        try:
            answers.append(ask_until("127.0.0.1", scene.port, after))
        except BaseException as error:  # noqa: BLE001 - told below
            answers.append(error)

    client = threading.Thread(target=wait)
    client.start()
    try:
        yield answers
    finally:
        client.join(40)
    assert answers, "no answer"
    if isinstance(answers[0], BaseException):
        raise answers[0]


def test_pain_8_networks_may_be_connected_and_disconnected_while_it_runs(scene: Scene, ambassador: Ambassador) -> None:
    network = scene.docker.name("net")
    scene.docker("network", "create", network)
    try:
        scene.start()
        ambassador.wait_for_instance(scene.service, scene.at)
        scene.docker("network", "connect", network, scene.name)
        scene.docker("network", "disconnect", "bridge", scene.name)
        ambassador.wait_for_instance(scene.service, f"{scene.ip(network)}:{scene.port}")
        assert scene.answers()
        scene.docker("network", "disconnect", network, scene.name)
        ambassador.wait_for_instance(scene.service, None)
        scene.docker("network", "connect", "bridge", scene.name)
        ambassador.wait_for_instance(scene.service, scene.at)
    finally:
        scene.docker("rm", "-f", scene.name)
        scene.docker("network", "rm", network)


def test_a_paused_container_gets_nobody_and_who_waits_is_served_afterwards(
    scene: Scene, ambassador: Ambassador
) -> None:
    scene.start()
    ambassador.wait_for_instance(scene.service, scene.at)
    assert scene.answers()
    scene.docker("pause", scene.name)
    ambassador.wait_for_instance(scene.service, None)
    with waiting(scene, 0.0) as answers:
        eventually(lambda: ambassador.services()[scene.service]["parked"] == 1, 10, "a client waits")
        scene.docker("unpause", scene.name)
    assert answers


def test_a_name_means_whoever_bears_it_now(scene: Scene, ambassador: Ambassador) -> None:
    other = scene.docker.name("other")
    scene.start(name=other)
    ambassador.wait_ready()
    assert ambassador.services() == {}
    scene.docker("rename", other, scene.name)
    ambassador.wait_for_instance(scene.service, scene.at)
    assert scene.answers()
    scene.docker("rename", scene.name, other)
    ambassador.wait_for_instance(scene.service, None)


def test_pain_17_a_signal_that_ends_nothing_changes_nothing(scene: Scene, ambassador: Ambassador) -> None:
    scene.start()
    ambassador.wait_for_instance(scene.service, scene.at)
    first = ask("127.0.0.1", scene.port)
    before = ambassador.log
    scene.docker("exec", scene.name, "python3", "-c", "pass")
    scene.docker("kill", "-s", "WINCH", scene.name)
    scene.docker("kill", "-s", "CONT", scene.name)
    scene.docker("rename", scene.name, scene.docker.name("away"))  # whatever came before was heard when this is
    ambassador.wait_for_instance(scene.service, None)
    heard = [line for line in ambassador.log.removeprefix(before).splitlines() if line.startswith("INFO docker:")]
    changes = [line for line in heard if scene.name in line]
    assert len(changes) == 1, changes
    assert first is not None


def test_pain_18_starting_and_unhealthy_containers_get_nobody(scene: Scene, ambassador: Ambassador) -> None:
    """Its health is a file's existence."""
    check = ("--health-cmd", "test -e /tmp/well", "--health-interval", "0.2s", "--health-retries", "1")
    scene.start(*check, "--health-start-period", "60s")
    ambassador.wait_ready()
    eventually(lambda: scene.service in ambassador.services(), 20)
    assert ambassador.address(scene.service) is None
    scene.docker("exec", scene.name, "touch", "/tmp/well")
    ambassador.wait_for_instance(scene.service, scene.at)
    assert scene.answers()
    scene.docker("exec", scene.name, "rm", "/tmp/well")
    ambassador.wait_for_instance(scene.service, None)


def test_a_port_that_two_expose_is_the_first_ones(scene: Scene) -> None:
    second = scene.docker.name("second")
    scene.start(name=second)
    scene.start()
    with Ambassador(scene.name, second) as amb:
        amb.wait_for_instance(scene.service, scene.at)
        amb.wait_for(rf"WARNING docker: {second}: port {scene.port}/tcp is that of {scene.name}")
        assert list(amb.services()) == [scene.service]


def test_what_is_made_anew_without_its_port_is_listened_for_no_more(scene: Scene, ambassador: Ambassador) -> None:
    scene.start()
    ambassador.wait_for_instance(scene.service, scene.at)
    scene.docker("rm", "-f", scene.name)
    other, scene.port = scene.port, free_port()
    scene.start()
    ambassador.wait_for_instance(f"{scene.name}:{scene.port}", scene.at)
    assert list(ambassador.services()) == [f"{scene.name}:{scene.port}"]
    eventually(lambda: refuses(other), 10, "the old port is closed")


def refuses(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        ask("127.0.0.1", port, 2.0)
        return False
    return True


def test_pain_27_fifty_restarts_of_a_backend_never_lose_the_listener(scene: Scene, ambassador: Ambassador) -> None:
    """The application in the container begins anew fifty times; nobody who connects meanwhile is refused, and all are
    answered by its next life.
    """
    scene.start()
    ambassador.wait_for_instance(scene.service, scene.at)
    since = ask_until("127.0.0.1", scene.port, 0.0).since
    for _ in range(50):
        assert ask("127.0.0.1", scene.port, what=b"again") is None
        since = ask_until("127.0.0.1", scene.port, since).since


def restarts(scene: Scene, host: str, times: int = 15) -> list[float]:
    """Seconds from listening again to the answer that somebody waited for, sorted."""
    waits = []
    for _ in range(times):
        began = time.monotonic()
        restart = subprocess.Popen(["docker", "restart", "-t", "1", scene.name], stdout=subprocess.DEVNULL)
        answer = ask_until(host, scene.port, began)
        waits.append(answer.came - answer.since)
        assert restart.wait(30) == 0
    return sorted(waits)
