"""A service's records with what operators drained of them, on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ambcore.admission import Admission, parse_networks
from ambcore.fleet import Drain, drain_key, encode_drain
from ambcore.model import Address, Instance
from ambcore.schema import encode_record, record_key
from ambcore.table import Reader
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.fleet import DrainWatch
from dynproxy.sources import EtcdSource
from tests.support.etcd_cluster import EtcdCluster

pytestmark = pytest.mark.etcd

ONE, TWO = (Instance("redis-A", name, Address(f"10.0.0.{number}", 80)) for number, name in enumerate(("one", "two"), 1))
WHY = Drain("redis-A", "one", why="disk")


@pytest_asyncio.fixture
async def etcd(shared_etcd: EtcdCluster, prefix: str) -> AsyncIterator[Etcd]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as client:
        for item in (ONE, TWO):
            await client.put(record_key("redis-A", item.id, prefix).encode(), encode_record(item))
        yield client


def source(etcd: Etcd, prefix: str, drains: DrainWatch, hold: float) -> EtcdSource:
    reader = Reader(prefix, Admission(parse_networks("10.0.0.0/8")))
    return EtcdSource(etcd, "redis-A", reader, drains, relist=300.0, hold=hold)


async def up(snapshots: AsyncIterator[tuple[Instance, ...]]) -> list[str]:
    """The ids of those in the next snapshot that take new connections."""
    return [item.id for item in await asyncio.wait_for(anext(snapshots), 20) if item.takes_new]


async def test_the_first_snapshot_knows_what_is_drained_and_the_next_what_changed(etcd: Etcd, prefix: str) -> None:
    """The markers are asked for later than the records here: what was drained gets nobody in between."""
    key = drain_key(WHY, f"{prefix}f/").encode()
    await etcd.put(key, encode_drain(WHY))
    drains = DrainWatch(etcd, f"{prefix}f/")
    late = asyncio.Event()

    async def later() -> None:
        async with drains:
            await late.wait()

    async with source(etcd, prefix, drains, 60.0) as made, contextlib.aclosing(made.snapshots()) as snapshots:
        first = asyncio.ensure_future(up(snapshots))
        while made.table is None:
            assert not first.done()
            await asyncio.sleep(0.01)
        watching = asyncio.create_task(later())
        assert await first == ["two"]
        assert made.drained_by(ONE) == WHY
        assert made.drained_by(TWO) is None
        await etcd.delete(key)
        assert await up(snapshots) == ["one", "two"]
        await etcd.put(drain_key(Drain(host="10.0.0.2"), f"{prefix}f/").encode(), b"")
        assert await up(snapshots) == ["one"]
        assert [item.id for item in made.table.instances("redis-A") if item.takes_new] == ["one", "two"]
        late.set()
        await watching


async def test_records_wait_for_drains_that_nobody_tells_of_a_moment_only(etcd: Etcd, prefix: str) -> None:
    drains = DrainWatch(etcd, f"{prefix}f/")  # never entered: it will not be known
    async with source(etcd, prefix, drains, 0.1) as made, contextlib.aclosing(made.snapshots()) as snapshots:
        assert await up(snapshots) == ["one", "two"]
