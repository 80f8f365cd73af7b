"""One service followed: every snapshot and every finding reaches the plane, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from ambcore.health import Result, Verdict
from ambcore.model import Address, Instance
from ambnet.daemon import background
from dynproxy.follow import Follower
from dynproxy.health import HealthChecks
from dynproxy.plane import DataPlane
from dynproxy.sources import Source as SourceProtocol

SERVICE = "redis-A"
A, B = (Instance(SERVICE, name, Address(f"10.0.0.{number}", 80)) for number, name in enumerate("ab", 1))
Applied = tuple[str, frozenset[str]]


class Source:
    """Gives the snapshots that a test puts in."""

    service, trusted = SERVICE, True

    def __init__(self) -> None:
        self.put: asyncio.Queue[tuple[Instance, ...]] = asyncio.Queue()
        self.known = asyncio.Event()

    async def snapshots(self) -> AsyncIterator[tuple[Instance, ...]]:
        while True:
            yield await self.put.get()
            self.known.set()


class Plane:
    """Notes what it is given: the ids, and those that are unhealthy. It takes its time while `free` is not set."""

    def __init__(self) -> None:
        self.applied: asyncio.Queue[Applied] = asyncio.Queue()
        self.free = asyncio.Event()
        self.free.set()
        self.begun = asyncio.Event()
        self.busy = 0

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        assert service == SERVICE
        assert not self.busy, "two at once"
        self.busy += 1
        self.begun.set()
        await self.free.wait()
        self.busy -= 1
        self.applied.put_nowait(("".join(item.id for item in instances), unhealthy))

    async def next(self) -> Applied:
        return await asyncio.wait_for(self.applied.get(), 5)


class Scene:
    """A follower with all of it, and checks whose verdict is `refused` for the addresses in `refusing`."""

    def __init__(self) -> None:
        self.source, self.plane = Source(), Plane()
        self.refusing: set[Address] = set()
        self.found = asyncio.Event()
        self.health = HealthChecks(0.05, 0.01, self._changed, knock=self._knock)
        self.follower = Follower(cast("SourceProtocol", self.source), self.health, cast("DataPlane", self.plane))

    def _changed(self, service: str, unhealthy: frozenset[str]) -> None:
        self.found.set()
        self.follower.health_changed()

    def _knock(self, address: Address, timeout: float, now: float) -> Result:
        return Result(Verdict.REFUSED if address in self.refusing else Verdict.PASSED)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    async with background(made.health.run, made.follower.follow_records, made.follower.follow_health):
        yield made


async def test_every_snapshot_reaches_the_plane(scene: Scene) -> None:
    for instances, text in (((A,), "a"), ((A, B), "ab"), ((), "")):
        scene.source.put.put_nowait(instances)
        assert await scene.plane.next() == (text, frozenset())


async def test_what_checks_find_reaches_the_plane_with_the_latest_instances(scene: Scene) -> None:
    scene.source.put.put_nowait((A, B))
    assert await scene.plane.next() == ("ab", frozenset())
    scene.refusing = {B.address}
    assert await scene.plane.next() == ("ab", frozenset({"b"}))
    scene.source.put.put_nowait((B,))
    assert await scene.plane.next() == ("b", frozenset({"b"}))
    scene.refusing = set()
    assert await scene.plane.next() == ("b", frozenset())


async def test_what_is_found_while_the_plane_is_busy_is_applied_afterwards(scene: Scene) -> None:
    scene.source.put.put_nowait((A, B))
    assert await scene.plane.next() == ("ab", frozenset())
    scene.plane.free.clear()
    scene.plane.begun.clear()
    scene.source.put.put_nowait((A,))
    await scene.plane.begun.wait()
    scene.refusing = {A.address}
    await asyncio.wait_for(scene.found.wait(), 5)
    scene.plane.free.set()
    assert (await scene.plane.next())[0] == "a"
    assert await scene.plane.next() == ("a", frozenset({"a"}))


async def test_nothing_is_applied_before_the_instances_are_known(scene: Scene) -> None:
    """A first look that finds something must not make "not known yet" into "none"."""
    scene.follower.health_changed()
    await asyncio.sleep(0.1)
    assert scene.plane.applied.empty()
    assert not scene.plane.busy
