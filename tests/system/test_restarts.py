"""Everything restarts, in any order, and all is well again without a hand."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.load import Target, ask
from tests.support.docker_engine import Docker, OwnEngine
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program
from tests.support.waiting import eventually

pytestmark = [pytest.mark.etcd, pytest.mark.docker, pytest.mark.netns, pytest.mark.system]

# The two ends of a cable between us and the engine's own network; another one for each run.
NEAR, FAR = (f"10.251.{os.getpid() % 256}.{end}" for end in (1, 2))


class Scene:
    """One of each: an engine with a container, etcd, registrar, dynproxy. Each can be restarted by name."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self.engine = stack.enter_context(OwnEngine())
        _plug_in(self.engine.namespace)
        self.docker = stack.enter_context(Docker(self.engine.url))
        self.etcd = stack.enter_context(EtcdCluster(folder / "etcd", size=1))
        self.name = self.docker.run("--restart", "always", "-p", "80", command=("httpd", "-f", "-p", "80"))
        self.port = free_port()
        self.programs = {"registrar": self._registrar(), "dynproxy": self._dynproxy()}
        self.restarts: dict[str, Callable[[], None]] = {
            "dockerd": self._restart_engine,
            "etcd": self._restart_etcd,
            "registrar": lambda: self._restart("registrar", self._registrar),
            "dynproxy": lambda: self._restart("dynproxy", self._dynproxy),
        }

    def _registrar(self) -> Program:
        where = ("--etcd", self.etcd.endpoints[0], "--docker", self.engine.url, "--advertise", FAR, "--ttl", "3")
        return self._stack.enter_context(Program("registrar", self.name, "80", "echo", *where))

    def _dynproxy(self) -> Program:
        where = ("--etcd", self.etcd.endpoints[0], "--listen", "127.0.0.1", "--drain", "1")
        return self._stack.enter_context(Program("dynproxy", "echo", str(self.port), *where))

    def _restart(self, name: str, start: Callable[[], Program]) -> None:
        self.programs[name].kill()
        self.programs[name] = start()

    def _restart_engine(self) -> None:
        self.engine.stop()
        self.engine.start()

    def _restart_etcd(self) -> None:
        self.etcd.stop()
        self.etcd.start()

    def answers(self) -> bool:
        """Whether a client that knows nothing gets an answer."""
        try:
            target = Target(self.port, line=b"GET / HTTP/1.0\r\n\r\n")
            return asyncio.run(asyncio.wait_for(ask(target), 12)).startswith("HTTP/1")
        except (OSError, EOFError, TimeoutError) as error:
            logs = "\n".join(f"--- {name}\n{program.log}" for name, program in self.programs.items())
            raise AssertionError(f"{error!r}\n{logs}") from error

    def records(self) -> list[dict[str, object]]:
        """What etcd holds."""
        lines = self.etcd.etcdctl("get", "--prefix", "/services/", "--print-value-only").splitlines()
        return [json.loads(line) for line in lines if line]


def _plug_in(namespace: str) -> None:
    """A cable from our network to the engine's; it goes with the engine's namespace."""
    near, far = f"amb-{os.getpid()}", "far0"
    for command in (
        f"ip link add {near} type veth peer name {far} netns {namespace}",
        f"ip addr add {NEAR}/30 dev {near}",
        f"ip link set {near} up",
        f"ip -n {namespace} addr add {FAR}/30 dev {far}",
        f"ip -n {namespace} link set {far} up",
    ):
        subprocess.run(command.split(), check=True)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


def test_restarts_in_any_order_converge_without_a_hand(scene: Scene) -> None:
    """Two rounds over all four in orders drawn by lot (the seed is the test's), each killed or stopped and started."""
    eventually(scene.answers, 30, "the first answer")
    lot = random.Random(7)
    for _ in range(2):
        order = sorted(scene.restarts, key=lambda _: lot.random())
        for name in order:
            scene.restarts[name]()
        eventually(scene.answers, 30, f"an answer after restarts of {order}")
        expected = [{"host": FAR, "port": scene.docker.port(scene.name)}]
        eventually(
            lambda expected=expected: (
                [{key: item[key] for key in ("host", "port")} for item in scene.records()]  # type: ignore[misc]
                == expected
            ),
            15,
            "one record, and the right one",
        )
    for program in scene.programs.values():
        assert "Traceback" not in program.log
        assert program.stop() == 0


@pytest.mark.parametrize("name", ["dockerd", "etcd"])
def test_outage_is_said_once_and_so_is_its_end(scene: Scene, name: str) -> None:
    """The log says once per change what happened, however often it is tried meanwhile."""
    eventually(scene.answers, 30, "the first answer")
    registrar = scene.programs["registrar"]
    before = len(registrar.lines)
    scene.restarts[name]()
    eventually(scene.answers, 30, "an answer again")
    eventually(scene.records, 15, "a record again")
    said = registrar.lines[before:]
    complaints = [line for line in said if line.startswith(("WARNING", "ERROR"))]
    assert 1 <= len(complaints) <= 4, said
    assert len(set(complaints)) == len(complaints), said
    assert len(said) <= 12, said
