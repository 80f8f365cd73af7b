"""One lease for the life of a process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from ambcore.states import Lease
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.etcd.protocol import grpc
from ambnet.lease import LeaseKeeper
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_etcd import FakeEtcd
from tests.support.fault_proxy import FaultProxy
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd


@pytest_asyncio.fixture
async def etcd(shared_etcd: EtcdCluster) -> AsyncIterator[Etcd]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as client:
        yield client


async def granted(keeper: LeaseKeeper, count: int) -> None:
    """Until so many leases were granted in all, the last of them held."""

    async def enough() -> bool:
        return keeper.grants >= count and keeper.state is Lease.HELD

    await eventually_async(enough)


async def test_a_lease_outlives_its_ttl_without_a_write(etcd: Etcd, prefix: str) -> None:
    """Heartbeats are keep-alives, never puts."""
    async with LeaseKeeper(etcd, 2) as keeper:
        lease = await keeper.held(5)
        revision = await etcd.put(prefix.encode() + b"k", b"v", lease)
        started = time.monotonic()

        async def two_ttls_later() -> bool:
            return time.monotonic() - started > 2 * keeper.ttl

        await eventually_async(two_ttls_later)
        found = await etcd.get(prefix.encode() + b"k")
        assert found is not None
        assert (found.revision, found.lease) == (revision, lease)
        assert (keeper.lease, keeper.grants) == (lease, 1)


async def test_closing_takes_the_keys_back_or_leaves_them_to_the_ttl(etcd: Etcd, prefix: str) -> None:
    """A lease that lives on without its keys tells their readers that somebody meant it."""
    for revoke in (True, False):
        keeper = LeaseKeeper(etcd, 10)
        async with keeper:
            lease = await keeper.held(5)
            for number in range(150):
                await etcd.put(f"{prefix}{number}".encode(), b"", lease)
            started = time.monotonic()
            await keeper.close(revoke=revoke)
            await keeper.close(revoke=True)
            assert time.monotonic() - started < 1.5
        assert len((await etcd.list(prefix.encode())).items) == (0 if revoke else 150)
        assert await etcd.time_to_live(lease) is not None
        assert keeper.state is Lease.CLOSED
        await etcd.revoke(lease)


async def test_closing_takes_back_only_what_still_has_the_lease(etcd: Etcd, prefix: str) -> None:
    """A key that somebody has put under another lease meanwhile is theirs."""
    async with LeaseKeeper(etcd, 10) as keeper:
        lease = await keeper.held(5)
        other, _ = await etcd.grant(10)
        for name, its in (("ours", lease), ("theirs", other)):
            await etcd.put(f"{prefix}{name}".encode(), b"", its)
        await keeper.close(revoke=True)
    assert [item.key for item in (await etcd.list(prefix.encode())).items] == [f"{prefix}theirs".encode()]
    await etcd.revoke(other)


async def test_closing_takes_a_second_when_etcd_is_away(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, size=1) as cluster:
        async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, LeaseKeeper(etcd, 10) as keeper:
            await keeper.held(5)
            cluster.members[0].suspend()
            started = time.monotonic()
            await keeper.close(revoke=True)
            assert time.monotonic() - started < 1.5
            cluster.members[0].resume()


async def test_a_revoked_lease_is_granted_anew_and_said_once(etcd: Etcd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lease")
    leases: list[int] = []
    keeper = LeaseKeeper(etcd, 2)
    keeper.on_new_lease = leases.append
    async with keeper:
        await etcd.revoke(await keeper.held(5))
        await granted(keeper, 2)
        assert leases[1] == keeper.lease != leases[0]
    said = [record.levelname for record in caplog.records if record.name == "lease"]
    assert said == ["INFO", "WARNING", "INFO"]


async def test_A3_outage_shorter_than_the_ttl(tmp_path: Path) -> None:
    """The same lease afterwards, and its key never left."""
    with EtcdCluster(tmp_path) as cluster:
        async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, LeaseKeeper(etcd, 6) as keeper:
            lease = await keeper.held(5)
            revision = await etcd.put(b"/k", b"v", lease)
            for member in cluster.members:
                member.suspend()
            away = time.monotonic()

            async def away_for_four_seconds() -> bool:
                return time.monotonic() - away > 4

            await eventually_async(away_for_four_seconds)
            for member in cluster.members:
                member.resume()

            async def renewed() -> bool:
                return keeper._renewed > away + 4

            await eventually_async(renewed)
            assert keeper.lease == lease
            found = await etcd.get(b"/k")
            assert found is not None
            assert found.revision == revision


async def test_A7_blackhole_moves_the_lease_within_its_ttl(shared_etcd: EtcdCluster) -> None:
    """An answer that does not come within a third of the TTL is asked for elsewhere: no lease is lost."""
    other = shared_etcd.members[1].url
    async with FaultProxy(shared_etcd.members[0].url) as gate, Etcd(EtcdConfig((gate.url, other))) as etcd:
        etcd._current = etcd._urls.index(gate.url)
        async with LeaseKeeper(etcd, 6) as keeper:
            lease = await keeper.held(5)
            gate.mute()
            muted = time.monotonic()

            async def renewed_elsewhere() -> bool:
                return etcd.endpoint == other and keeper._renewed > muted + 0.1

            await eventually_async(renewed_elsewhere, 6)
            assert (keeper.lease, keeper.grants) == (lease, 1)
            assert await etcd.time_to_live(lease)


async def test_A23_lease_renew_zero(figure: Callable[[str], None]) -> None:
    """TTL 0 is etcd's way of saying that it does not know the lease: another within a second."""
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd, LeaseKeeper(etcd, 3) as keeper:
        await keeper.held(5)
        fake.renewals = [0]

        async def zero_was_said() -> bool:
            return not fake.renewals

        await eventually_async(zero_was_said)
        started = time.monotonic()
        await granted(keeper, 2)
        took = time.monotonic() - started
        assert took < 1
        figure(f"TTL 0: another lease after {took:.2f} s")


@pytest.mark.parametrize(
    "trouble",
    [
        1.5,  # seconds: later than a third of the TTL
        (grpc.StatusCode.UNKNOWN, "not a primary lessor"),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader"),
    ],
)
async def test_A23_lease_kept_through_trouble(trouble: float | tuple[grpc.StatusCode, str]) -> None:
    """A late answer and a member that does not lead say nothing about the lease: the same one goes on."""
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd, LeaseKeeper(etcd, 3) as keeper:
        lease = await keeper.held(5)
        fake.renewals = [trouble]

        async def over() -> bool:
            asked = len(fake.asked("LeaseKeepAlive"))
            return not fake.renewals and asked >= 4 and keeper.last_error is None

        await eventually_async(over)
        assert (keeper.lease, keeper.grants) == (lease, 1)
        assert {request.ID for request in fake.asked("LeaseKeepAlive")} == {lease}


async def test_silence_for_a_whole_ttl_makes_a_lease_suspect_not_lost(shared_etcd: EtcdCluster) -> None:
    async with (
        FaultProxy(shared_etcd.members[0].url) as gate,
        Etcd(EtcdConfig((gate.url,))) as etcd,
        LeaseKeeper(etcd, 2) as keeper,
    ):
        lease = await keeper.held(5)
        gate.cut()

        async def suspect() -> bool:
            return keeper.state is Lease.SUSPECT

        await eventually_async(suspect)
        assert keeper.lease == lease
        gate.restore()
        await granted(keeper, 2)  # three seconds are too long for a TTL of two: etcd knows it no more


async def test_waiting_for_a_lease_ends_in_time_when_there_is_none() -> None:
    async with Etcd(EtcdConfig(("http://127.0.0.1:9",))) as etcd, LeaseKeeper(etcd, 10) as keeper:
        started = time.monotonic()
        with pytest.raises(Exception, match="no lease"):
            await keeper.held(0.3)
        assert time.monotonic() - started < 1
        await asyncio.gather(keeper.close(revoke=True), keeper.close(revoke=False))
