"""Etcd is gone for long, and dynproxy starts meanwhile: clients are served, and the age of what is known is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.dynasty import Dynasty
from tests.support.etcd_cluster import EtcdCluster
from tests.support.programs import fetch
from tests.support.waiting import eventually
from tests.system.kernel_hosts import REDIS, KernelProxy, Redis, Stage
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]
BOTH = pytest.mark.parametrize("plane", ["kernel", "relay"])
CLOCK = 1.0  # seconds by which two processes' ideas of an age may differ


@dataclass
class Scene:
    """Three members on the proxy's host, the stage's servers registered there, and a directory for what is known."""

    stage: Stage
    etcd: EtcdCluster
    folder: Path
    _left: float = field(default=0.0)

    def put(self, server: Redis, **more: Any) -> None:
        record = {"host": server.host, "port": REDIS, **more}
        self.etcd.etcdctl("put", f"/services/{self.stage.service}/{server.host}", "--", json.dumps(record))

    @property
    def options(self) -> tuple[str, ...]:
        return ("--etcd", ",".join(self.etcd.endpoints), "--state", str(self.folder / "state"))

    def written(self) -> bool:
        """Whether the directory has all three records, and which host is drained."""
        texts = [path.read_text() for path in (self.folder / "state").glob("*.memory")]
        return any(text.count('"host') >= len(self.stage.servers) for text in texts) and len(texts) == 2

    def leave(self) -> None:
        """Etcd is gone."""
        self.etcd.stop()
        self._left = time.monotonic()

    def away(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._left

    def aged(self, proxy: KernelProxy) -> Mapping[str, Any]:
        """What a proxy says of the service, once that agrees with how long etcd has been away."""

        def look() -> Mapping[str, Any] | None:
            shown = proxy.service(self.stage.service)
            away = self.away()
            assert shown["view_age"] is not None, shown
            assert away - CLOCK < shown["view_age"] < away + 60, (away, shown["view_age"])
            return shown if shown["instances"] is not None else None

        found = eventually(look, 20, "the age of the view")
        assert found is not None
        return found


@pytest.fixture
def scene(stage: Stage, tmp_path: Path) -> Iterator[Scene]:
    with cluster(stage, tmp_path) as etcd:
        made = Scene(stage, etcd, tmp_path)
        for server in stage.servers:
            made.put(server)
        yield made


@contextmanager
def cluster(stage: Stage, folder: Path) -> Iterator[EtcdCluster]:
    for tool in ("etcd", "etcdctl"):  # as if they were installed there
        wrapper = folder / tool
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(stage.hosts.proxy.prefix)} {tool} "$@"\n')
        wrapper.chmod(0o755)
    with EtcdCluster(folder / "data", 3, binaries=folder) as etcd:
        yield etcd


def outage(scene: Scene, plane: str, restarts: int, pause: float) -> tuple[str, float]:
    """Etcd gone, and so many restarts meanwhile; what the clients saw, and what the last process said of its view."""
    with Dynasty(scene.stage, scene.folder, plane, *scene.options) as dynasty:
        eventually(scene.written, 20, "what is known is on disk")
        with Load(scene.stage.hosts.client, scene.stage.to, 100) as load:
            scene.leave()
            for _ in range(restarts):
                time.sleep(pause)
                before = dynasty.succeed()
                assert before.process.wait(30) == 0
            proxy = dynasty.reigning
            shown = scene.aged(proxy)
            assert shown["recalled"]
            assert len(shown["instances"]) == len(scene.stage.servers)
            code, ready = proxy.host.call(lambda: fetch(f"http://{proxy.admin}/readyz"))
            assert (code, ready[:7]) == (200, "ok, but")
            assert proxy.metric("amb_view_recalled", service=scene.stage.service) == 1
            age = shown["view_age"]
            scene.etcd.start()
            scene.put(scene.stage.servers[0], weight=2)
            changed = time.monotonic()
            eventually(lambda: proxy.instance(scene.stage.service, scene.stage.servers[0].host)["weight"] == 2, 30)
            took = time.monotonic() - changed
            assert not proxy.service(scene.stage.service)["recalled"]
        outcome = load.outcome
    assert outcome.errors == {}
    text = f"{plane}: 0 errors in {outcome.ended} connections, {restarts} restarts without etcd, the last says"
    return f"{text} that its view is {age:.0f} s old; a change is seen {took:.1f} s after etcd's return", took


@BOTH
def test_A4_a_start_without_etcd_serves_what_was_known(scene: Scene, plane: str, figure: Figure) -> None:
    """Nobody is refused, the view's age goes on where the process before it was, and etcd's word is the last."""
    figure(outage(scene, plane, 1, 1.0)[0])


@pytest.mark.long
@pytest.mark.waits
@BOTH
def test_A4_ten_minutes_without_etcd_and_restarts_meanwhile(scene: Scene, plane: str, figure: Figure) -> None:
    text, took = outage(scene, plane, 4, 148.0)
    figure(text)
    assert took < 5


def test_A4_one_that_was_killed_is_followed_by_one_that_knows(scene: Scene, figure: Figure) -> None:
    """SIGKILL, no last word: what operators drained is remembered, and one that died meanwhile gets no client."""
    stage = scene.stage
    drained, dead, well = stage.servers
    scene.etcd.etcdctl("put", f"/ambassadors/drains/instances/{stage.service}/{drained.host}", "--", "{}")
    with KernelProxy(stage, {stage.port: stage.service}, *scene.options) as first:
        first.wait_serving(stage.service, *(each.host for each in stage.servers))
        eventually(scene.written, 20, "what is known is on disk")
        with Load(stage.hosts.client, stage.to, 50) as load:
            scene.leave()
            first.kill()
            dead.kill()
            with KernelProxy(stage, {stage.port: stage.service}, *scene.options) as second:
                second.wait_serving(stage.service, *(each.host for each in stage.servers))
                shown = scene.aged(second)
                eventually(lambda: second.instance(stage.service, dead.host)["state"] == "ejected", 15)
                assert second.instance(stage.service, drained.host)["drained"]
                assert stage.answers(6) == {well.host}
    assert load.outcome.errors == {}
    figure(f"killed and started without etcd: 0 errors in {load.outcome.ended}, view {shown['view_age']:.0f} s old")


def test_A4_one_that_knows_nothing_waits_and_says_so(stage: Stage, tmp_path: Path) -> None:
    """Unknown is not empty: not ready, and no age."""
    nowhere = ("--etcd", "http://127.0.0.1:9", "--state", str(tmp_path / "state"))
    with KernelProxy(stage, {stage.port: stage.service}, *nowhere) as proxy:
        shown = eventually(lambda: proxy.service(stage.service), 15)
        assert shown["instances"] is None
        assert shown["view_age"] is None
        assert proxy.host.call(lambda: fetch(f"http://{proxy.admin}/readyz"))[0] == 503
