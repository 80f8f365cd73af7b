"""Nobody reads the log: a full pipe, and a journal that has gone. No client notices, and every program still ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.registrar.scene import Records, registrar
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.programs import Program
from tests.support.waiting import eventually
from tests.system.kernel_hosts import Stage
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

BOTH = pytest.mark.parametrize("plane", ["relay", pytest.param("kernel", marks=pytest.mark.long)])


class Unread:
    """A pipe in the place of a program's outputs, which is full, and which nobody reads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "unread"
        os.mkfifo(self._path)
        self.prefix = ("sh", "-c", 'exec "$@" >"$0" 2>&1', str(self._path))

    def __enter__(self) -> Unread:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._descriptor, b"." * 4096)
        return self

    def __exit__(self, *failure: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Nobody is there any more, as when a journal has ended: whoever writes gets EPIPE. Twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Unread]:
    with Unread(tmp_path) as pipe:
        yield pipe


@BOTH
def test_C28_log_blocked_of_dynproxy(stage: Stage, figure: Figure, unread: Unread, plane: str) -> None:
    """Many more lines than are kept for a reader: clients, changes, checks and the end go on as ever; then EPIPE."""
    stage.put(*stage.servers)
    with stage.proxy("--plane", plane, "--log-level", "debug", prefix=unread.prefix) as proxy:
        proxy.wait_serving(stage.service, *(each.host for each in stage.servers), plane=plane)
        with Load(stage.hosts.client, stage.to, 200) as clients:
            for number in range(20):
                some = {f"{stage.service}/x{n}": {"host": f"10.78.{number}.{n}", "port": 1} for n in range(100)}
                stage.registry.write({name: {**value, "state": "draining"} for name, value in some.items()})
                stage.registry.delete(stage.service, *(name.partition("/")[2] for name in some))
            stage.put(stage.servers[0], weight=2)
            took_up(stage, proxy)
            unread.hang_up()
            time.sleep(0.5)
            assert len(stage.answers(6)) >= 2
        lost = proxy.metric("amb_log_lines_dropped_total")
        began = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(10) == 0
        took = time.monotonic() - began
    outcome = clients.outcome
    assert lost > 0
    assert outcome.errors == {}
    assert outcome.worst < 5
    figure(f"dynproxy, {plane}: {lost:.0f} lines lost, 0 of {outcome.ended} connections failed, ended in {took:.1f} s")


def took_up(stage: Stage, proxy: object) -> None:
    names = {each.host for each in stage.servers}
    eventually(lambda: {item["id"] for item in proxy.service(stage.service)["instances"]} == names, 15)  # type: ignore[attr-defined]


@pytest.mark.parametrize("signals", [1, 2])
def test_C28_log_blocked_to_the_end(stage: Stage, figure: Figure, unread: Unread, signals: int) -> None:
    """With the pipe still full: SIGTERM ends it with 0, a second one at once with 1."""
    stage.put(*stage.servers)
    with stage.proxy("--plane", "relay", "--drain", "20", prefix=unread.prefix) as proxy:
        proxy.wait_serving(stage.service, *(each.host for each in stage.servers), plane="relay")
        with contextlib.ExitStack() as stack:
            if signals == 2:
                stack.enter_context(stage.talk()).who()
            began = time.monotonic()
            proxy.signal(signal.SIGTERM)
            if signals == 2:
                time.sleep(0.5)
                assert proxy.process.poll() is None
                proxy.signal(signal.SIGTERM)
            assert proxy.process.wait(8) == signals - 1
            took = time.monotonic() - began
    figure(f"dynproxy ended with {signals - 1}, {took:.1f} s after the first of {signals} signals")


def test_C28_log_blocked_of_simple_amb(stage: Stage, figure: Figure, unread: Unread) -> None:
    """Its relay and its log are one process: a target that refuses is said for nobody, and costs nobody anything."""
    target = stage.servers[0]
    options = ("10.78.9.9:1", f"{target.host}:6379", "--listen", str(stage.port), "--log-level", "debug")
    with Program("simple_amb", *options, prefix=(*stage.hosts.proxy.prefix, *unread.prefix)) as program:
        eventually(lambda: connects(stage), 10, "it listens")
        with Load(stage.hosts.client, stage.to, 200) as clients:
            time.sleep(2)
        assert program.stop() == 0
    outcome = clients.outcome
    assert outcome.errors == {}
    figure(f"simple-amb: 0 of {outcome.ended} connections failed, the longest took {outcome.worst * 1000:.0f} ms")


@pytest.mark.long
@pytest.mark.docker
def test_C28_log_blocked_of_registrar(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, figure: Figure, unread: Unread
) -> None:
    """Records come and go as ever, and it deregisters at its end."""
    name, records = docker.run("-p", "80"), Records(shared_etcd, prefix)
    program = registrar(shared_etcd, prefix, name, "--log-level", "debug")
    program.prefix = [*unread.prefix]
    with program:
        records.appears(name, 30)
        docker("kill", name)
        records.vanishes(name)
        began = time.monotonic()
        docker("start", name)
        records.appears(name)
        took = time.monotonic() - began
        assert program.stop() == 0
        assert records.get(name) is None
    figure(f"registrar: back in rotation {took:.2f} s after `docker start` was asked for")


def connects(stage: Stage) -> bool:
    try:
        stage.talk().close()
    except ConnectionRefusedError:
        return False
    return True
