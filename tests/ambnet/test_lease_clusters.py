"""A lease, and another cluster at an address of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ambcore.errors import LeaseLostError
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.lease import LeaseKeeper
from tests.support.etcd_cluster import EtcdCluster
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd


@dataclass(frozen=True)
class Pair:
    """Two clusters that one client takes for members of one, and a keeper whose `lease` is with `ours`."""

    ours: EtcdCluster
    theirs: EtcdCluster
    etcd: Etcd
    keeper: LeaseKeeper
    lease: int

    def ask(self, cluster: EtcdCluster) -> None:
        """Have the client ask this one next."""
        self.etcd._current = self.etcd._urls.index(cluster.endpoints[0])


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """As two names in a list of which one was mistyped, or a machine that was given to others."""
    with EtcdCluster(tmp_path / "ours", size=1) as ours, EtcdCluster(tmp_path / "theirs", size=1) as theirs:
        async with Etcd(EtcdConfig((*ours.endpoints, *theirs.endpoints))) as etcd:
            etcd._current = etcd._urls.index(ours.endpoints[0])
            async with LeaseKeeper(etcd, 30) as keeper:
                lease = await keeper.held(5)
                await _renewed(keeper)
                yield Pair(ours, theirs, etcd, keeper, lease)


async def test_A10_a_lease_is_not_moved_to_another_cluster_at_one_address(pair: Pair) -> None:
    """Ours goes for a moment, and who answers in its place knows no lease of ours: that says nothing."""
    await asyncio.to_thread(pair.ours.stop)

    async def refused() -> bool:
        return pair.keeper.last_error == "another cluster answers there"

    await eventually_async(refused, 20)
    await asyncio.to_thread(pair.ours.start)
    await _renewed(pair.keeper)
    assert (pair.keeper.lease, pair.keeper.grants) == (pair.lease, 1)
    assert "found 0 leases" in pair.theirs.etcdctl("lease", "list")


async def test_A10_a_write_that_another_cluster_refuses_costs_no_lease(pair: Pair) -> None:
    """It is told that the lease is gone; the lease's own keeper asks, and looks who answers."""
    pair.ask(pair.theirs)
    with pytest.raises(LeaseLostError):
        await pair.etcd.put(b"/s/a", b"1", pair.lease)
    pair.keeper.lost(pair.lease)
    assert await pair.keeper.held(10) == pair.lease
    await pair.etcd.put(b"/s/a", b"1", pair.lease)
    assert pair.keeper.grants == 1
    assert pair.ours.etcdctl("get", "/s/a", "--print-value-only").strip() == "1"
    assert "found 0 leases" in pair.theirs.etcdctl("lease", "list")


async def test_A10_a_cluster_that_has_replaced_ours_grants_another(tmp_path: Path) -> None:
    """With the first answers of both members, not after a time."""
    with EtcdCluster(tmp_path / "theirs", size=2) as theirs, EtcdCluster(tmp_path / "ours", size=1) as ours:
        async with Etcd(EtcdConfig(ours.endpoints)) as etcd, LeaseKeeper(etcd, 30) as keeper:
            doubts: list[bool] = []
            keeper.on_doubt = doubts.append
            lease = await keeper.held(5)
            await _renewed(keeper)
            async with Etcd(EtcdConfig(theirs.endpoints)) as moved:
                etcd._urls, etcd._endpoints, etcd._current = moved._urls, moved._endpoints, 0
                await asyncio.to_thread(ours.stop)

                async def granted() -> bool:
                    return keeper.grants == 2

                await eventually_async(granted, 10)
                assert True in doubts
                assert keeper.lease != lease
                assert f"{keeper.lease:x}" in theirs.etcdctl("lease", "list")


async def _renewed(keeper: LeaseKeeper) -> None:
    before = keeper._renewed

    async def again() -> bool:
        return keeper._renewed > before and keeper.last_error is None

    await eventually_async(again, 20)
