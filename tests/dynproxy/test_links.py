"""Links as containers come and go: a daemon made of values, a plane that only remembers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Self, cast

import pytest

from ambcore.containers import ContainerEvent, EngineMessage, Subscribed
from ambcore.errors import ConfigError, DockerError
from ambcore.links import LABEL
from ambcore.model import Address, Instance
from ambnet.daemon import background
from ambnet.dockerd import Engine
from dynproxy import links as module
from dynproxy.config import Front
from dynproxy.following import Following, following
from dynproxy.health import HealthChecks
from dynproxy.links import Links
from dynproxy.plane import DataPlane
from dynproxy.sources import Source
from tests.ambnet.relay.test_doors import room_for
from tests.support.waiting import eventually_async

GATEWAY, OTHER = "127.0.0.1", "127.0.0.2"  # a local address, and one that no table of ours lists


class FakeEngine:
    """A daemon's answers, and what it says of changes."""

    url, connected = "fake://", True

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.gateways = {"bridge": GATEWAY, "far": OTHER}
        self.refuses: str | None = None
        self.hang = asyncio.Event()
        self.hang.set()
        self._events: asyncio.Queue[ContainerEvent] = asyncio.Queue()

    def put(self, name: str, label: str, *, network: str = "bridge", created: str = "1") -> None:
        self.containers[name] = {
            "Id": name,
            "Name": f"/{name}",
            "Created": created,
            "Config": {"Labels": {LABEL: label}},
            "HostConfig": {"NetworkMode": network},
        }
        self._events.put_nowait(ContainerEvent("create", name))

    def remove(self, name: str) -> None:
        del self.containers[name]
        self._events.put_nowait(ContainerEvent("destroy", name))

    async def events(self) -> AsyncGenerator[EngineMessage, None]:
        yield Subscribed()
        while True:
            yield await self._events.get()

    async def list(self) -> dict[str, str]:
        return {name: name for name in self.containers}

    async def inspect(self, name: str) -> dict[str, Any] | None:
        await self.hang.wait()
        return self.containers.get(name)

    async def glimpse(self, containers: Sequence[str], label: str) -> tuple[dict[str, Any], ...]:
        return tuple(self.containers[name] for name in containers if name in self.containers and label == LABEL)

    async def networks(self) -> tuple[dict[str, Any], ...]:
        if self.refuses:
            raise DockerError(self.refuses)
        return tuple(
            {"Name": name, "Driver": "bridge", "IPAM": {"Config": [{"Gateway": gateway}]}}
            for name, gateway in self.gateways.items()
        )


class Remembering:
    """A plane that knows what it was told; `taken` ports cannot be had."""

    def __init__(self) -> None:
        self.open_fronts: set[tuple[str, str | None, int]] = set()
        self.taken: set[int] = set()

    async def open(self, front: Front) -> None:
        if front.port in self.taken:
            raise ConfigError("PORT", f"{front.host}:{front.port}: Address already in use")
        self.open_fronts.add((front.service, front.host, front.port))

    async def close(self, front: Front) -> None:
        self.open_fronts.remove((front.service, front.host, front.port))

    async def apply(self, *_: object) -> None: ...


class Records:
    """A source whose records are given. `trusted` and the rest are as Source has them."""

    trusted = True

    def __init__(self, service: str, records: tuple[Instance, ...], own: set[Address]) -> None:
        self.service = service
        self.served: tuple[Instance, ...] | None = None
        self.known = asyncio.Event()
        self._instances = tuple(item for item in records if item.address not in own)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def snapshots(self) -> AsyncIterator[tuple[Instance, ...]]:
        yield self._instances
        self.served = self._instances
        self.known.set()
        await asyncio.Event().wait()


class Scene:
    """Links at work. `own` are the addresses they know as ours."""

    def __init__(self, followed: Following, plane: Remembering) -> None:
        self.engine, self.plane, self.followed = FakeEngine(), plane, followed
        self.own: set[Address] = set()
        self.records: dict[str, tuple[Instance, ...]] = {}
        self.links = Links(cast("Engine", self.engine), followed, self.source, self.own, resync=60)

    def source(self, service: str) -> Source:
        return cast("Source", Records(service, self.records.get(service, ()), self.own))

    @property
    def services(self) -> list[str]:
        return [source.service for source in self.followed.sources]

    async def until(self, *fronts: tuple[str, str, int]) -> None:
        async def reached() -> bool:
            return self.plane.open_fronts == set(fronts)

        await eventually_async(reached, 5, f"open: {fronts}; status: {self.links.status()}")

    async def refused(self) -> list[tuple[str, str | None, str]]:
        async def some() -> list[Any]:
            return list(self.links.status()["refused"])

        found = await eventually_async(some, 5, "something is refused")
        return [(each["container"], each["link"], each["why"]) for each in found]


@contextlib.asynccontextmanager
async def scene(*fronts: Front) -> AsyncIterator[Scene]:
    plane = Remembering()
    health = HealthChecks(0, 1, lambda *_: None)
    async with following(health, cast("DataPlane", plane), fronts) as followed:
        made = Scene(followed, plane)
        async with background(made.links.run):
            yield made


async def test_a_listener_is_there_from_the_first_consumer_to_the_last() -> None:
    async with scene() as stage:
        stage.engine.put("one", "redis-A:6379")
        await stage.until(("redis-A", GATEWAY, 6379))
        assert stage.services == ["redis-A"]
        assert stage.own == {Address(GATEWAY, 6379)}
        stage.engine.put("two", "redis-A:6379,pg:5432", created="2")
        await stage.until(("redis-A", GATEWAY, 6379), ("pg", GATEWAY, 5432))
        stage.engine.remove("one")
        stage.engine.remove("two")
        await stage.until()
        assert stage.services == []
        assert stage.own == set()


async def test_a_place_goes_to_the_next_when_the_elder_is_removed() -> None:
    async with scene() as stage:
        stage.engine.put("old", "a:1")
        stage.engine.put("new", "b:1", created="2")
        await stage.until(("a", GATEWAY, 1))
        assert await stage.refused() == [("new", "b:1", "127.0.0.1:1 is where a is, for old, which is older")]
        stage.engine.remove("old")
        await stage.until(("b", GATEWAY, 1))
        assert stage.services == ["b"]
        assert stage.links.status()["refused"] == []


async def test_a_port_that_is_taken_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN", (0.01, 0.01))
    async with scene() as stage:
        stage.plane.taken.add(1)
        stage.engine.put("web", "a:1,b:2")
        await stage.until(("b", GATEWAY, 2))

        async def said() -> bool:
            listeners = stage.links.status()["listeners"]
            return [(each["open"], each["why"]) for each in listeners] == [
                (False, "127.0.0.1:1: Address already in use"),
                (True, None),
            ]

        await eventually_async(said, 5, "the reason is shown")
        assert stage.services == ["b"]
        stage.plane.taken.clear()
        await stage.until(("a", GATEWAY, 1), ("b", GATEWAY, 2))
    assert caplog.text.count("Address already in use") == 1


async def test_a_service_of_the_command_line_is_followed_once_and_stays() -> None:
    async with scene(Front("redis-A", 6379)) as stage:
        stage.followed.follow(stage.source("redis-A"))
        stage.engine.put("web", "redis-A:6379,redis-A:7000")
        await stage.until(("redis-A", GATEWAY, 7000))
        standing, own = stage.links.status()["listeners"]
        assert (standing["address"], standing["open"], own["address"]) == ("127.0.0.1:6379", True, "127.0.0.1:7000")
        stage.engine.remove("web")
        await stage.until()
        assert stage.services == ["redis-A"]


async def test_a_record_that_points_at_a_new_listener_of_ours_is_read_anew() -> None:
    """It was fine as long as nobody listened there; now it would send one connection round and round."""
    async with scene() as stage:
        stage.records["a"] = (Instance("a", "one", Address(GATEWAY, 2)), Instance("a", "two", Address("10.0.0.1", 2)))
        stage.engine.put("web", "a:1")

        async def serves(count: int) -> bool:
            return [len(source.served or ()) for source in stage.followed.sources if source.service == "a"] == [count]

        await eventually_async(lambda: serves(2), 5)
        stage.engine.put("other", "b:2", created="2")
        await eventually_async(lambda: serves(1), 5, "the loop is refused")


async def test_while_networks_cannot_be_asked_for_the_known_ones_are_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN", (0.01, 0.01))
    async with scene() as stage:
        stage.engine.put("one", "a:1")
        await stage.until(("a", GATEWAY, 1))
        stage.engine.refuses = "403: not for you"
        stage.engine.gateways["new"] = GATEWAY
        stage.engine.put("two", "b:2,c:3", network="new", created="2")
        stage.engine.put("three", "c:3", created="3")
        await stage.until(("a", GATEWAY, 1), ("c", GATEWAY, 3))

        async def said() -> bool:
            return "cannot ask for networks, only known ones are served: 403: not for you" in caplog.text

        await eventually_async(said, 5)
        stage.engine.refuses = None
        await stage.until(("a", GATEWAY, 1), ("b", GATEWAY, 2), ("c", GATEWAY, 3))
    assert caplog.text.count("403") == 1


async def test_without_a_descriptor_to_spare_the_known_networks_are_served_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which addresses are ours is read from files."""
    monkeypatch.setattr(module, "TRY_AGAIN", (0.01, 0.01))
    async with scene() as stage:
        stage.engine.put("one", "a:1")
        await stage.until(("a", GATEWAY, 1))
        with room_for(0):
            stage.engine.gateways["new"] = GATEWAY
            stage.engine.put("two", "b:2", network="new", created="2")
            await eventually_async(lambda: asyncio.sleep(0, "Too many open files" in caplog.text), 5)
        await stage.until(("a", GATEWAY, 1), ("b", GATEWAY, 2))


async def test_a_container_that_cannot_be_looked_at_yet_is_served_already() -> None:
    """As one cannot while it is being started; by then it may be too late."""
    async with scene() as stage:
        stage.engine.put("old", "a:1")
        await stage.until(("a", GATEWAY, 1))
        stage.engine.hang.clear()
        stage.engine.put("new", "b:1,b:2", created="0")
        await stage.until(("a", GATEWAY, 1), ("b", GATEWAY, 2))
        stage.engine.hang.set()
        await stage.until(("b", GATEWAY, 1), ("b", GATEWAY, 2))  # it turns out to be the elder


async def test_what_cannot_be_done_is_said_once_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with scene() as stage:
        stage.engine.put("web", "a:1", network="far")
        why = "127.0.0.2, the gateway of network far, is no address of ours: run dynproxy with --network host"
        assert await stage.refused() == [("web", None, why)]
        stage.engine.put("x", "b:2", created="2")
        await stage.until(("b", GATEWAY, 2))
    assert caplog.text.count(why) == 1
