"""Containers as sources: a daemon made of values, a plane that only remembers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest

from ambcore.containers import ContainerEvent, EngineMessage, Lost, Subscribed
from ambcore.errors import ConfigError, DockerError
from ambcore.model import Instance, Protocol
from ambcore.states import Watch
from ambnet.daemon import background
from ambnet.dockerd import Engine
from dynproxy import docker_source
from dynproxy.config import Front
from dynproxy.docker_source import Containers
from dynproxy.following import Following, following
from dynproxy.health import HealthChecks
from dynproxy.plane import DataPlane
from tests.ambnet.relay.test_doors import room_for
from tests.dynproxy.test_exposed import ID, container, network
from tests.support.waiting import eventually_async

TCP = Protocol.TCP
REDIS = Front("redis:6379", 6379, TCP)


class FakeEngine:
    """A daemon's answers, and what it says of changes."""

    connected = True

    def __init__(self) -> None:
        self.url = "unix:///fake.sock"
        self.containers: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.away = False
        self.busy = asyncio.Event()
        self.busy.set()
        self.messages: asyncio.Queue[EngineMessage] = asyncio.Queue()
        self.messages.put_nowait(Subscribed())

    def says(self, action: str, name: str = "redis", *, id: str = ID, old_name: str = "") -> None:  # noqa: A002
        self.messages.put_nowait(ContainerEvent(action, id, name, old_name))

    async def events(self) -> AsyncGenerator[EngineMessage, None]:
        while True:
            yield await self.messages.get()

    async def inspect(self, name: str) -> dict[str, Any] | None:
        self.asked.append(name)
        await self.busy.wait()
        if self.away:
            raise DockerError("no answer")
        return self.containers.get(name)


class Plane:
    """Remembers what is open, and every set of instances in turn, as text. Ports in `taken` cannot be had."""

    def __init__(self) -> None:
        self.fronts: list[Front] = []
        self.applied: dict[str, list[str]] = {}
        self.taken: set[int] = set()

    async def open(self, front: Front) -> None:
        if front.port in self.taken:
            raise ConfigError("PORT", f"*:{front.port}: Address already in use")
        self.fronts.append(front)

    async def close(self, front: Front) -> None:
        if front in self.fronts:
            self.fronts.remove(front)

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        assert any(front.service == service for front in self.fronts), "nobody listens for it"
        told = " ".join(f"{item.id}@{item.address.host}" for item in instances)
        history = self.applied.setdefault(service, [])
        if not history or history[-1] != told:
            history.append(told)


class Scene:
    def __init__(self, engine: FakeEngine, plane: Plane, containers: Containers, followed: Following) -> None:
        self.engine, self.plane, self.containers, self.followed = engine, plane, containers, followed

    async def until(self, service: str, *history: str) -> None:
        """Until the plane was told exactly this of a service."""

        async def told() -> bool:
            assert self.plane.applied.get(service) == list(history), self.plane.applied
            return True

        await eventually_async(told, 5)

    async def until_open(self, *fronts: Front) -> None:
        async def opened() -> bool:
            assert self.plane.fronts == list(fronts), self.plane.fronts
            return True

        await eventually_async(opened, 5)


@contextlib.asynccontextmanager
async def running(engine: FakeEngine, *names: str, resync: float = 30.0, taken: int = 0) -> AsyncIterator[Scene]:
    plane = Plane()
    plane.taken = {taken}
    health = HealthChecks(0, 1, lambda *_: None)
    containers = Containers(cast("Engine", engine), names or ("redis",), None, resync=resync)
    async with (
        following(health, cast("DataPlane", plane)) as followed,
        background(containers.run, lambda: containers.serve(followed)),
    ):
        await asyncio.wait_for(containers.in_line.wait(), 5)
        yield Scene(engine, plane, containers, followed)


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


def moved(address: str, started: str = "2026-01-02T04:00:00Z", **state: Any) -> dict[str, Any]:
    return container(state={"StartedAt": started, **state}, bridge=network(address))


async def test_it_listens_from_the_first_sight_of_a_container_for_good(engine: FakeEngine) -> None:
    async with running(engine) as scene:
        assert scene.plane.fronts == []
        assert scene.containers.seen == {"redis": None}
        engine.containers["redis"] = container(state={"Status": "created", "Running": False})
        engine.says("create")
        await scene.until("redis:6379", "")
        engine.containers["redis"] = container()
        engine.says("start")
        await scene.until("redis:6379", "", "redis@172.17.0.2")
        del engine.containers["redis"]
        engine.says("destroy")
        await scene.until("redis:6379", "", "redis@172.17.0.2", "")
        assert scene.plane.fronts == [REDIS]
        engine.containers["redis"] = moved("172.17.0.7")
        engine.says("start", id="another")
        await scene.until("redis:6379", "", "redis@172.17.0.2", "", "redis@172.17.0.7")
        assert scene.plane.fronts == [REDIS]


async def test_a_restart_too_fast_to_be_seen_is_another_life_all_the_same(engine: FakeEngine) -> None:
    """At the same address, too: what was found out about the life before is not true of it."""
    engine.containers["redis"] = container()
    async with running(engine) as scene:
        await scene.until("redis:6379", "redis@172.17.0.2")
        engine.containers["redis"] = moved("172.17.0.2")
        engine.says("die")
        engine.says("start")
        await scene.until("redis:6379", "redis@172.17.0.2", "", "redis@172.17.0.2")


async def test_a_death_counts_at_once_and_the_look_that_follows_is_right(engine: FakeEngine) -> None:
    """The daemon answers only when it has cleared away. A death that is old news does no lasting harm."""
    engine.containers["redis"] = container()
    async with running(engine) as scene:
        await scene.until("redis:6379", "redis@172.17.0.2")
        engine.busy.clear()
        engine.says("die")
        await scene.until("redis:6379", "redis@172.17.0.2", "")
        engine.busy.set()
        await scene.until("redis:6379", "redis@172.17.0.2", "", "redis@172.17.0.2")


async def test_pain_2_with_every_event_lost_it_is_right_within_one_resync(engine: FakeEngine) -> None:
    async with running(engine, resync=0.1) as scene:
        engine.containers["redis"] = container()
        await scene.until("redis:6379", "redis@172.17.0.2")
        engine.containers["redis"] = moved("172.17.0.7")
        await scene.until("redis:6379", "redis@172.17.0.2", "", "redis@172.17.0.7")


async def test_pain_3_a_daemon_that_is_away_changes_nothing_and_is_asked_when_it_is_back(engine: FakeEngine) -> None:
    engine.containers["redis"] = container()
    async with running(engine) as scene:
        await scene.until("redis:6379", "redis@172.17.0.2")
        engine.away = True
        engine.messages.put_nowait(Lost("it is gone"))
        engine.says("connect", "")
        await eventually_async(lambda: asyncio.sleep(0, scene.containers.error == "no answer"), 5)
        assert scene.plane.applied == {"redis:6379": ["redis@172.17.0.2"]}
        engine.away = False
        engine.containers["redis"] = moved("172.17.0.7")
        engine.messages.put_nowait(Subscribed())
        await scene.until("redis:6379", "redis@172.17.0.2", "", "redis@172.17.0.7")
        (source,) = scene.followed.sources
        assert (source.sight().watch, source.sight().error) == (Watch.WATCHING, None)


async def test_without_a_descriptor_to_spare_what_is_known_stays_until_there_is_one(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which addresses are ours is read from files."""
    monkeypatch.setattr(docker_source, "LOOK_AGAIN", 0.1)
    engine.containers["redis"] = container()
    async with running(engine) as scene:
        await scene.until("redis:6379", "redis@172.17.0.2")
        with room_for(0):
            engine.containers["redis"] = moved("172.17.0.7")
            engine.says("start")
            await eventually_async(lambda: asyncio.sleep(0, "Too many open files" in caplog.text), 5)
        await scene.until("redis:6379", "redis@172.17.0.2", "", "redis@172.17.0.7")


async def test_while_the_name_of_the_daemons_host_is_not_resolved_the_last_address_is_its(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to the daemon needs no name any more, so it goes on telling."""
    engine.url = "tcp://localhost.localdomain:2375"
    answers = iter([[(None, None, 0, "", ("192.0.2.1", 0))]])

    def getaddrinfo(*_: object) -> list[Any]:
        for answer in answers:
            return answer
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    engine.containers["redis"] = container("host")
    async with running(engine) as scene:
        await scene.until("redis:6379", "redis@192.0.2.1")
        engine.containers["redis"] = container("host", state={"Paused": True})
        engine.says("pause")
        await scene.until("redis:6379", "redis@192.0.2.1", "")
        engine.containers["redis"] = container("host")
        engine.says("unpause")
        await scene.until("redis:6379", "redis@192.0.2.1", "", "redis@192.0.2.1")


async def test_events_of_others_are_no_reason_to_look_but_networks_are(engine: FakeEngine) -> None:
    async with running(engine):
        engine.asked.clear()
        for action in ("start", "die", "kill"):
            engine.says(action, "other", id="0" * 64)
        engine.says("rename", "new", id="1" * 64, old_name="redis")
        await eventually_async(lambda: asyncio.sleep(0, engine.asked == ["redis"]), 5)
        engine.says("connect", "", id="2" * 64)
        await eventually_async(lambda: asyncio.sleep(0, engine.asked == ["redis", "redis"]), 5)


async def test_a_port_that_cannot_be_had_is_said_once_and_tried_again(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.containers["redis"] = container()
    with caplog.at_level("INFO", "docker"):
        async with running(engine, resync=0.05, taken=6379) as scene:
            looks = len(engine.asked)
            await eventually_async(lambda: asyncio.sleep(0, len(engine.asked) > looks + 3), 5)
            assert scene.followed.fronts == ()
            scene.plane.taken = set()
            await scene.until("redis:6379", "redis@172.17.0.2")
    failures = [line for line in caplog.messages if "cannot listen" in line]
    assert failures == ["redis: cannot listen, trying again: PORT: *:6379: Address already in use"]


async def test_a_port_that_a_container_has_no_longer_goes_to_the_next_that_wants_it(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.containers = {"redis": container(), "second": {**moved("172.17.0.3"), "Name": "/second"}}
    async with running(engine, "redis", "second") as scene:
        await scene.until("redis:6379", "redis@172.17.0.2")
        assert [line for line in caplog.messages if "second: port 6379/tcp is that of redis" in line]
        other = container()
        other["Config"]["ExposedPorts"] = {"80/tcp": {}}
        other["NetworkSettings"]["Ports"] = {}
        engine.containers["redis"] = other
        engine.says("create")
        await scene.until("second:6379", "second@172.17.0.3")
        await scene.until_open(Front("redis:80", 80, TCP), Front("second:6379", 6379, TCP))
        assert [source.service for source in scene.followed.sources] == ["redis:80", "second:6379"]


async def test_both_transports_of_a_port_are_one_service(engine: FakeEngine) -> None:
    dns = container()
    dns["Config"]["ExposedPorts"] = {"53/tcp": {}, "53/udp": {}}
    dns["NetworkSettings"]["Ports"] = {}
    engine.containers["redis"] = dns
    async with running(engine) as scene:
        await scene.until("redis:53", "redis@172.17.0.2 redis:udp@172.17.0.2")
        assert {front.protocol for front in scene.plane.fronts} == set(Protocol)
        assert len(scene.followed.sources) == 1


async def test_what_fails_for_good_ends_the_block() -> None:
    class Broken:
        service, served, known, trusted = "x", None, asyncio.Event(), True

        async def __aenter__(self) -> Any:
            raise RuntimeError("a defect")

        async def __aexit__(self, *_: object) -> None: ...

    async def block() -> None:
        async with following(HealthChecks(0, 1, lambda *_: None), cast("DataPlane", Plane())) as followed:
            followed.follow(cast("Any", Broken()))
            await asyncio.sleep(5)

    with pytest.raises(RuntimeError, match="a defect"):
        await block()
