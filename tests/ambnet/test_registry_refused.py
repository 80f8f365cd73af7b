"""What etcd refuses is tried again later and later, and is nobody else's trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ambcore.errors import RegistryDeniedError, RegistryError, RegistryRefusedError
from ambcore.model import Address, Instance
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.etcd.protocol import grpc
from ambnet.lease import LeaseKeeper
from ambnet.record import Record
from ambnet.registry import Registry
from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_users import allow, let_in, login, password_in
from tests.support.fake_etcd import FakeEtcd
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

REDIS = Instance("redis-A", "redis-1", Address("10.0.0.1", 49153))
SECRET = replace(REDIS, service="secret")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[EtcdCluster, EtcdConfig]]:
    """One member whose user `registrar` may read all records, and write those of redis-A."""
    with EtcdCluster(tmp_path / "etcd", size=1) as cluster:
        let_in(cluster, {"registrar": ["read /services/", "readwrite /services/redis-A/"]})
        yield cluster, login(cluster, "registrar", password_in(tmp_path))


async def test_a_record_that_may_not_be_written_does_not_keep_the_others_from_being_audited(
    guarded: tuple[EtcdCluster, EtcdConfig],
) -> None:
    """What somebody deletes comes back, strays go, and what was denied is written soon after it is allowed."""
    cluster, config = guarded
    stray = b"/services/redis-A/stray"
    async with (
        Etcd(config) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Registry(etcd, keeper, owner="host-a", epoch="1", audit=1.0) as registry,
    ):
        await registry.hold(REDIS)
        with pytest.raises(RegistryDeniedError):
            await registry.hold(SECRET)
        await etcd.put(stray, b'{"host": "10.0.0.1", "port": 1, "owner": "host-a", "epoch": "1"}')
        await etcd.delete(b"/services/redis-A/redis-1")

        async def right() -> bool:
            return await etcd.get(stray) is None and await etcd.get(b"/services/redis-A/redis-1") is not None

        await eventually_async(right)
        assert registry.last_error is not None
        await asyncio.to_thread(allow, cluster, "registrar", "readwrite /services/secret/")

        async def written() -> bool:
            return await etcd.get(b"/services/secret/redis-1") is not None and registry.last_error is None

        await eventually_async(written, 20)


async def test_a_stray_that_may_not_be_deleted_does_not_keep_the_others(
    guarded: tuple[EtcdCluster, EtcdConfig],
) -> None:
    """As of a service that this user may not write any more."""
    cluster, config = guarded
    ours = '{"host": "10.0.0.1", "port": 1, "owner": "host-a", "epoch": "1"}'
    cluster.etcdctl("put", "/services/A/stray", ours)
    cluster.etcdctl("put", "/services/redis-A/stray", ours)
    async with (
        Etcd(config) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Registry(etcd, keeper, owner="host-a", epoch="1", audit=0.2),
    ):

        async def gone() -> bool:
            return await etcd.get(b"/services/redis-A/stray") is None

        await eventually_async(gone)
        assert await etcd.get(b"/services/A/stray") is not None


async def test_a_denied_record_is_asked_for_seldom_whoever_insists() -> None:
    """After one second, two, four, …: neither a holder that tries again nor other wishes make it more often."""
    async with (
        FakeEtcd() as fake,
        Etcd(EtcdConfig((fake.url,))) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Registry(etcd, keeper, owner="host-a", epoch="1", prefix="/s/") as registry,
    ):
        await registry.hold(REDIS)
        fake.refusals = [DENIED] * 100
        began = time.monotonic()
        while (waited := time.monotonic() - began) < 4:
            for wish in (SECRET, replace(SECRET, id="redis-2")):
                with pytest.raises(RegistryDeniedError):
                    await registry.hold(wish)
            await asyncio.sleep(0.02)
        tries = 100 - len(fake.refusals)
        assert tries <= 2 * 4, f"{tries} in {waited:.1f} s"
        fake.refusals = []
        started = time.monotonic()
        await registry.hold(replace(SECRET, weight=2))  # another wish
        await registry.hold(replace(REDIS, weight=2))
        assert time.monotonic() - started < 1
        await eventually_async(lambda: _over(registry))


async def _over(registry: Registry) -> bool:
    return registry.last_error is None


async def test_a_record_with_both_keys_taken_is_written_when_one_is_free(shared_etcd: EtcdCluster, prefix: str) -> None:
    async with (
        Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Registry(etcd, keeper, owner="host-a", epoch="1", prefix=prefix) as registry,
    ):
        beside = f"{prefix}redis-A/redis-1@host-a".encode()
        for key in (f"{prefix}redis-A/redis-1".encode(), beside):
            await etcd.put(key, b"10.9.9.9:1")
        with pytest.raises(RegistryRefusedError, match="belongs to somebody else, too"):
            await registry.hold(REDIS)
        await etcd.delete(beside)

        async def ours() -> bool:
            return await etcd.get(beside) is not None

        await eventually_async(ours)


async def test_who_may_not_list_does_not_ask_again_and_again() -> None:
    """A doubt that cannot be settled waits for the next audit."""
    async with (
        FakeEtcd() as fake,
        Etcd(EtcdConfig((fake.url,))) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Registry(etcd, keeper, owner="host-a", epoch="1", prefix="/s/") as registry,
    ):
        await keeper.held(5)
        fake.unreadable = DENIED
        keeper.on_doubt(True)
        await eventually_async(lambda: _asked(fake))
        await registry.hold(REDIS)
        await asyncio.sleep(1)  # the rule is that nothing happens for a time
        assert len(fake.asked("Range")) == 1


async def _asked(fake: FakeEtcd) -> bool:
    return bool(fake.asked("Range"))


async def test_pauses_of_a_refused_record_grow_and_another_wish_is_heard_at_once() -> None:
    record = Record(REDIS, REDIS.id)

    async def refused() -> float:
        with pytest.raises(RegistryError):
            async with record.turn():
                raise RegistryDeniedError("permission denied")
        return record.again - time.monotonic()

    assert 0.4 < await refused() <= 1
    assert record.put_off
    pauses = []
    for _ in range(7):
        record.again = 0.0
        pauses.append(await refused())
    assert pauses[0] > 0.9
    assert 14 < pauses[-1] <= 30
    record.ask_anew()
    async with record.turn():
        pass
    assert record.refusal is None


async def test_what_was_acknowledged_after_its_lease_was_lost_is_written_under_the_next() -> None:
    record = Record(REDIS, REDIS.id, 7, (b"value", 1))
    assert not record.waits(1)
    assert record.waits(2)
    record.superseded = True
    assert not record.waits(2)
