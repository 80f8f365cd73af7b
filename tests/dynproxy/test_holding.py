"""A source whose records vanish: who is served on, and what makes them go, on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from ambcore.admission import Admission, parse_networks
from ambcore.errors import RegistryUnavailableError
from ambcore.fleet import Drain, drain_key, encode_drain
from ambcore.hold import Loss
from ambcore.model import Address, Instance, Protocol
from ambcore.schema import encode_record, record_key
from ambcore.table import Reader
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.fleet import DrainWatch
from dynproxy.holding import Holding
from dynproxy.memory import Memory
from dynproxy.sources import EtcdSource
from tests.support.etcd_cluster import EtcdCluster
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

A, B, C = (Instance("s", name, Address(f"10.0.0.{number}", 80)) for number, name in enumerate("abc", 1))


@dataclass
class Scene:
    """`source` reads records that are written under leases of their own; `ill` are those that fail their checks."""

    etcd: Etcd
    prefix: str
    seconds: float = 60.0
    memory: Memory | None = None
    mute: bool = False
    ill: set[str] = field(default_factory=set)
    leases: dict[str, int] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[EtcdSource]:
        """Follow as a proxy does; `served` has the ids of each snapshot, capitals for those that take clients."""
        self.holding = Holding("s", self.seconds, lambda: self.ill, self._ask)
        reader = Reader(self.prefix, Admission(parse_networks("10.0.0.0/8")))
        async with DrainWatch(self.etcd, f"{self.prefix}f/") as drains:
            made = EtcdSource(self.etcd, "s", reader, drains, relist=300.0, holding=self.holding, memory=self.memory)
            async with made:
                task = asyncio.create_task(self._read(made))
                try:
                    yield made
                finally:
                    task.cancel()
                    await asyncio.wait({task})

    async def _read(self, source: EtcdSource) -> None:
        async for instances in source.snapshots():
            self.served.append("".join(item.id.upper() if item.takes_new else item.id for item in instances))

    async def _ask(self, lease: int) -> int | None:
        if self.mute:
            raise RegistryUnavailableError("no answer")
        return await self.etcd.time_to_live(lease)

    async def put(self, *items: Instance, leased: bool = True) -> None:
        for item in items:
            self.leases[item.id] = (await self.etcd.grant(60))[0] if leased else 0
            await self.etcd.put(self.key(item), encode_record(item), self.leases[item.id])

    def key(self, item: Instance) -> bytes:
        return record_key("s", item.id, self.prefix).encode()

    async def expire(self, *items: Instance) -> None:
        for item in items:
            await self.etcd.revoke(self.leases[item.id])

    async def until(self, served: str) -> None:
        """The last snapshot is this."""

        async def look() -> bool:
            return self.served[-1:] == [served]

        await eventually_async(look, 15, f"{served!r} is served")

    async def until_held(self, ids: str) -> None:
        """Those are held, and it is known why."""

        async def look() -> bool:
            return "".join(each.instance.id for each in self.holding.held if each.loss is not Loss.UNKNOWN) == ids

        await eventually_async(look, 15, f"{ids!r} are held")


@pytest_asyncio.fixture
async def scene(shared_etcd: EtcdCluster, prefix: str) -> AsyncIterator[Scene]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd:
        yield Scene(etcd, prefix)


async def test_A5_leases_that_end_take_nobody_along(scene: Scene) -> None:
    """One of three is believed; then the others are missed with it. Who is back takes its own place, changed or not."""
    await scene.put(A, B, C)
    async with scene.reading():
        await scene.until("ABC")
        await scene.expire(A)
        await scene.until("BC")
        await scene.expire(B, C)
        await scene.until_held("abc")
        await scene.until("ABC")
        moved = Instance("s", "a", Address("10.0.0.9", 80))
        await scene.put(moved)
        await scene.until_held("bc")
        assert scene.holding.total == 3
        await scene.put(B, C)
        await scene.until_held("")
    assert scene.served[-1] == "ABC"
    assert "" not in scene.served


async def test_A5_one_that_fails_its_check_goes(scene: Scene) -> None:
    await scene.put(A, B)
    async with scene.reading():
        await scene.until("AB")
        await scene.expire(A, B)
        await scene.until_held("ab")
        await scene.until("AB")
        scene.ill.add("a")
        await scene.until("B")
        scene.ill.clear()
        assert [each.instance.id for each in scene.holding.held] == ["b"]


async def test_A5_a_deletion_is_believed_with_a_lease_or_without(scene: Scene) -> None:
    await scene.put(A)
    await scene.put(B, leased=False)
    async with scene.reading():
        await scene.until("AB")
        await scene.etcd.delete(scene.key(B))
        await scene.until("A")
        await scene.etcd.delete(scene.key(A))
        await scene.until("")
        assert scene.holding.total == 0


async def test_A5_what_etcd_does_not_answer_is_held_until_it_does(scene: Scene) -> None:
    await scene.put(A)
    async with scene.reading():
        await scene.until("A")
        scene.mute = True
        await scene.etcd.delete(scene.key(A))

        async def held() -> bool:
            return [each.loss for each in scene.holding.held] == [Loss.UNKNOWN]

        await eventually_async(held, 15)
        scene.mute = False
        await scene.until("")


async def test_A5_nobody_is_held_for_longer_than_the_time(scene: Scene) -> None:
    """A datagram service as well, which nobody checks."""
    datagrams = Instance("s", "u", Address("10.0.0.4", 53), Protocol.UDP)
    scene.seconds = 1.0
    await scene.put(datagrams)
    async with scene.reading():
        await scene.until("U")
        await scene.expire(datagrams)
        await scene.until_held("u")
        await scene.until("")


async def test_A5_without_a_time_nobody_is_held(scene: Scene) -> None:
    scene.seconds = 0.0
    await scene.put(A)
    async with scene.reading():
        await scene.until("A")
        await scene.expire(A)
        await scene.until("")


async def test_A5_what_an_operator_drains_is_not_held(scene: Scene) -> None:
    """Nor does one that is held get clients once it is drained."""
    await scene.put(A, B)
    marker = Drain("s", "a")
    await scene.etcd.put(drain_key(marker, f"{scene.prefix}f/").encode(), encode_drain(marker))
    async with scene.reading():
        await scene.until("aB")
        await scene.expire(A, B)
        await scene.until_held("b")
        await scene.until("B")
        marker = Drain("s", "b")
        await scene.etcd.put(drain_key(marker, f"{scene.prefix}f/").encode(), encode_drain(marker))
        await scene.until("b")


async def test_A5_a_restart_while_etcd_has_forgotten_goes_on_holding(scene: Scene, tmp_path: Path) -> None:
    """What is held stays on disk, and the next process compares the first list with that."""
    scene.memory = Memory(tmp_path)
    await scene.put(A, B)
    async with scene.reading():
        await scene.until("AB")
    async with scene.reading():
        await scene.until("AB")
        await scene.expire(A, B)
        await scene.until_held("ab")
    scene.served.clear()
    async with scene.reading():
        await scene.until("AB")
        await scene.until_held("ab")
        await scene.put(A, B)
        await scene.until_held("")
    assert set(scene.served) == {"AB"}
