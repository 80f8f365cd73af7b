"""Owned records: ours, all of ours, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ambcore.errors import RegistryError, RegistryRefusedError
from ambcore.model import Address, Instance, Readiness
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.etcd.protocol import grpc
from ambnet.lease import LeaseKeeper
from ambnet.registry import Registry
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_etcd import FakeEtcd
from tests.support.fault_proxy import FaultProxy
from tests.support.following import Following
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

REDIS = Instance("redis-A", "redis-1", Address("10.0.0.1", 49153))


@dataclass
class Host:
    """A registrar's edge to etcd, without the registrar."""

    etcd: Etcd
    keeper: LeaseKeeper
    registry: Registry


@contextlib.asynccontextmanager
async def host(
    prefix: str, *endpoints: str, owner: str = "host-a", epoch: str = "1", ttl: int = 10, audit: float = 60
) -> AsyncIterator[Host]:
    async with (
        Etcd(EtcdConfig(endpoints)) as etcd,
        LeaseKeeper(etcd, ttl) as keeper,
        Registry(etcd, keeper, owner=owner, epoch=epoch, prefix=prefix, audit=audit) as registry,
    ):
        yield Host(etcd, keeper, registry)


async def value(etcd: Etcd, key: str) -> dict[str, object] | None:
    found = await etcd.get(key.encode())
    return json.loads(found.value) if found else None


async def test_a_record_is_written_under_the_lease_with_host_and_port_first(
    shared_etcd: EtcdCluster, prefix: str
) -> None:
    async with host(prefix, *shared_etcd.endpoints) as a:
        assert await a.registry.hold(REDIS) == "redis-1"
        found = await a.etcd.get(f"{prefix}redis-A/redis-1".encode())
        assert found is not None
        assert found.lease == a.keeper.lease
        assert found.value.startswith(b'{"host": "10.0.0.1", "port": 49153')
        assert list(a.registry.held) == [f"{prefix}redis-A/redis-1"]
        await a.registry.release("redis-A", "redis-1")
        await a.registry.release("redis-A", "redis-1")
        assert await value(a.etcd, f"{prefix}redis-A/redis-1") is None


async def test_an_unchanged_record_costs_no_write(shared_etcd: EtcdCluster, prefix: str) -> None:
    async with host(prefix, *shared_etcd.endpoints, audit=0.05) as a:
        await a.registry.hold(REDIS)
        async with Following(PrefixWatch(a.etcd, prefix)) as seen:
            await seen.until_listed()
            for _ in range(20):
                await a.registry.hold(REDIS)
            await a.registry.hold(replace(REDIS, readiness=Readiness.DRAINING))

            async def told() -> bool:
                return bool(seen.events)

            await eventually_async(told)
            assert len(seen.events) == 1
            assert b'"state": "draining"' in next(iter(seen.contents.values()))
            assert a.registry.repairs == 0


async def test_B3_restart_no_flap(shared_etcd: EtcdCluster, prefix: str) -> None:
    """A new life of the same host adopts the records that the old one left to the TTL: no DELETE at any time."""
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        await seen.until_listed()
        async with host(prefix, *shared_etcd.endpoints, epoch="old", ttl=3) as old:
            await old.registry.hold(REDIS)
            old_lease = old.keeper.lease
            await old.registry.close(deregister=False)
        async with host(prefix, *shared_etcd.endpoints, epoch="new", ttl=3) as new:
            assert await new.registry.hold(REDIS) == "redis-1"

            async def old_lease_over() -> bool:
                return await etcd.time_to_live(old_lease) is None

            await eventually_async(old_lease_over)
            found = await etcd.get(f"{prefix}redis-A/redis-1".encode())
            assert found is not None
            assert found.lease == new.keeper.lease
            assert all(hasattr(event, "value") for event in seen.events)
            assert len(seen.events) == 2


async def test_B2_graceful_stop(shared_etcd: EtcdCluster, prefix: str) -> None:
    """All records vanish within a second, in one transaction."""
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        async with host(prefix, *shared_etcd.endpoints) as a:
            for number in range(5):
                await a.registry.hold(replace(REDIS, id=f"redis-{number}"))

            async def all_told() -> bool:
                return len(seen.contents) == 5

            await eventually_async(all_told)
            started = time.monotonic()
            await a.registry.close(deregister=True)
            assert time.monotonic() - started < 1
            await seen.until({}, 1)
        assert len({event.revision for event in seen.events[-5:]}) == 1


async def test_two_hosts_with_one_name_stand_side_by_side(
    shared_etcd: EtcdCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody overwrites another's record; the warning comes once."""
    async with (
        host(prefix, *shared_etcd.endpoints, owner="host-a") as a,
        host(prefix, *shared_etcd.endpoints, owner="host-b") as b,
    ):
        assert await a.registry.hold(REDIS) == "redis-1"
        other = replace(REDIS, address=Address("10.0.0.2", 49153))
        assert await b.registry.hold(other) == "redis-1@host-b"
        assert await b.registry.hold(replace(other, weight=2)) == "redis-1@host-b"
        first = await value(a.etcd, f"{prefix}redis-A/redis-1")
        second = await value(a.etcd, f"{prefix}redis-A/redis-1@host-b")
        assert first is not None
        assert second is not None
        assert (first["owner"], second["owner"], second["weight"]) == ("host-a", "host-b", 2)
        await b.registry.release("redis-A", "redis-1")
        assert await value(a.etcd, f"{prefix}redis-A/redis-1@host-b") is None
        assert await value(a.etcd, f"{prefix}redis-A/redis-1") == first
    assert caplog.text.count("belongs to another host") == 1


@pytest.mark.parametrize("foreign", [b'{"host": "10.9.9.9", "port": 1}', b"10.9.9.9:1", b"\xff not a record"])
async def test_a_record_without_owner_is_not_ours(shared_etcd: EtcdCluster, prefix: str, foreign: bytes) -> None:
    async with host(prefix, *shared_etcd.endpoints) as a:
        revision = await a.etcd.put(f"{prefix}redis-A/redis-1".encode(), foreign)
        assert await a.registry.hold(REDIS) == "redis-1@host-a"
        found = await a.etcd.get(f"{prefix}redis-A/redis-1".encode())
        assert found is not None
        assert (found.value, found.revision) == (foreign, revision)


async def test_B4_two_registrars(shared_etcd: EtcdCluster, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """One host id twice: the later one takes the key once, the earlier says so once and leaves it alone."""
    async with (
        host(prefix, *shared_etcd.endpoints, epoch="first", audit=0.1) as first,
        host(prefix, *shared_etcd.endpoints, epoch="second", audit=0.1) as second,
    ):
        await first.registry.hold(REDIS)
        await second.registry.hold(REDIS)

        async def noticed() -> bool:
            return first.registry.conflicts > 0

        await eventually_async(noticed)
        for _ in range(5):
            await first.registry.hold(REDIS)
            await second.registry.hold(REDIS)
        [record] = shared_etcd.etcdctl_json("get", f"{prefix}redis-A/redis-1")["kvs"]
        assert record["version"] == 2  # as often it was written
        assert second.registry.conflicts == 0
        assert caplog.text.count("taken over by another registrar") == 1
        await second.registry.close(deregister=True)

        async def ours_again() -> bool:
            found = await value(first.etcd, f"{prefix}redis-A/redis-1")
            return found is not None and found["epoch"] == "first"

        await eventually_async(ours_again)


@pytest.mark.parametrize("owner", ["host-a", "host-b"])
async def test_B5_zombie_wakes(shared_etcd: EtcdCluster, prefix: str, owner: str) -> None:
    """One that was away for longer than its lease neither overwrites nor deletes the newer registration."""
    key = f"{prefix}redis-A/redis-1".encode()
    async with (
        FaultProxy(shared_etcd.members[0].url) as gate,
        host(prefix, gate.url, epoch="zombie", ttl=2, audit=0.2) as zombie,
        host(prefix, *shared_etcd.endpoints, owner=owner, epoch="newer", ttl=10) as newer,
    ):
        await zombie.registry.hold(REDIS)
        gate.cut()

        async def expired() -> bool:
            return await newer.etcd.get(key) is None

        await eventually_async(expired)
        assert await newer.registry.hold(replace(REDIS, address=Address("10.0.0.2", 1))) == "redis-1"
        registered = await newer.etcd.get(key)
        gate.restore()

        async def awake() -> bool:
            return zombie.keeper.grants >= 2 and zombie.registry.conflicts >= 1

        await eventually_async(awake)
        assert await newer.etcd.get(key) == registered
        await zombie.registry.release("redis-A", "redis-1")
        await zombie.registry.close(deregister=True)
        assert await newer.etcd.get(key) == registered


async def test_a_lost_lease_brings_every_record_back_within_a_second(shared_etcd: EtcdCluster, prefix: str) -> None:
    async with host(prefix, *shared_etcd.endpoints, ttl=2) as a, Following(PrefixWatch(a.etcd, prefix)) as seen:
        for number in range(30):
            await a.registry.hold(replace(REDIS, id=f"redis-{number}"))

        async def all_told() -> bool:
            return len(seen.contents) == 30

        await eventually_async(all_told)
        before = dict(seen.contents)
        await a.etcd.revoke(a.keeper.lease)
        await seen.until({})

        async def granted() -> bool:
            return a.keeper.grants == 2

        await eventually_async(granted)
        await seen.until(before, 1)


async def test_A23_lease_not_found_on_put(figure: Callable[[str], None]) -> None:
    """A write is told that the lease is gone: another lease, and the record stands, within a second."""
    async with FakeEtcd() as fake, host("/s/", fake.url) as a:
        lease = await a.keeper.held(5)
        fake.forgotten.add(lease)
        started = time.monotonic()
        await a.registry.hold(REDIS)
        took = time.monotonic() - started
        assert took < 1
        figure(f"lease not found by a write: written under another after {took:.2f} s")
        assert a.keeper.lease != lease
        assert fake.keys[b"/s/redis-A/redis-1"].lease == a.keeper.lease


async def test_a_write_whose_answer_is_lost_is_looked_up() -> None:
    """It happened, or it did not: in both cases the record stands once and is known."""
    lost = (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
    async with FakeEtcd() as fake, host("/s/", fake.url) as a:
        fake.refusals = [lost]
        await a.registry.hold(REDIS)
        fake.answers_lost = 1
        await a.registry.hold(replace(REDIS, weight=2))
        assert fake.revision == 3
        await a.registry.release("redis-A", "redis-1")
        assert not fake.keys


async def test_A5_mass_lease_expiry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """etcd away for longer than the TTL. Wishes of that time fail at once, and all is right 3 s after its return."""
    caplog.set_level(logging.INFO)
    with EtcdCluster(tmp_path, size=1) as cluster:
        async with host("/s/", *cluster.endpoints, ttl=2) as a:
            await a.registry.hold(REDIS)
            await a.registry.hold(replace(REDIS, id="redis-2"))
            cluster.stop()
            with pytest.raises(RegistryError):
                await a.registry.hold(replace(REDIS, id="redis-3"))
            with pytest.raises(RegistryError):
                await a.registry.release("redis-A", "redis-2")
            await asyncio.to_thread(cluster.start)
            returned = time.monotonic()

            async def right() -> bool:
                keys = {item.key for item in (await a.etcd.list(b"/s/")).items}
                return keys == {b"/s/redis-A/redis-1", b"/s/redis-A/redis-3"}

            await eventually_async(right)
            assert time.monotonic() - returned < 3


async def test_the_audit_puts_right_what_others_did(shared_etcd: EtcdCluster, prefix: str) -> None:
    """A deleted record comes back, a stray one with our epoch goes; others' records stay."""
    stray = f"{prefix}redis-A/stray".encode()
    earlier = f"{prefix}redis-A/earlier".encode()
    async with host(prefix, *shared_etcd.endpoints, audit=0.1) as a:
        await a.registry.hold(REDIS)
        await a.etcd.put(stray, b'{"host": "10.0.0.1", "port": 1, "owner": "host-a", "epoch": "1"}')
        await a.etcd.put(earlier, b'{"host": "10.0.0.1", "port": 1, "owner": "host-a", "epoch": "0"}')
        await a.etcd.delete(f"{prefix}redis-A/redis-1".encode())

        async def right() -> bool:
            return await a.etcd.get(stray) is None and await value(a.etcd, f"{prefix}redis-A/redis-1") is not None

        await eventually_async(right)
        assert await a.etcd.get(earlier) is not None
        assert a.registry.repairs == 2


async def test_a_record_that_readers_would_not_take_is_refused_and_said_once(
    shared_etcd: EtcdCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would see it, and nobody would know why."""

    async def tried(registry: Registry) -> bool:
        return registry.last_error is not None

    async def calm(registry: Registry) -> bool:
        return registry.last_error is None

    large = replace(REDIS, attributes=tuple((f"label-{number}", "x" * 1000) for number in range(9)))
    long = replace(REDIS, service="s" * 128, id="i" * 255)
    async with host(prefix + "p" * 128 + "/", *shared_etcd.endpoints) as a:
        for wish, why in ((large, "9219 bytes, the limit is 8192"), (long, "longer than 512 bytes")):
            caplog.clear()
            for _ in range(3):
                with pytest.raises(RegistryRefusedError, match=why):
                    await a.registry.hold(wish)
                a.registry.last_error = None
                await eventually_async(lambda: tried(a.registry))
            assert caplog.text.count(why) == 1
            await a.registry.release(wish.service, wish.id)
            await eventually_async(lambda: calm(a.registry))
        assert (await a.etcd.list(prefix.encode())).items == ()
        await a.registry.hold(REDIS)
        await a.registry.hold(replace(REDIS, weight=2))
        await a.registry.release("redis-A", "redis-1")


async def test_the_name_beside_anothers_has_to_fit_too(shared_etcd: EtcdCluster, prefix: str) -> None:
    named = replace(REDIS, id="i" * 250)
    async with (
        host(prefix, *shared_etcd.endpoints) as a,
        host(prefix, *shared_etcd.endpoints, owner="host-b") as b,
    ):
        await a.registry.hold(named)
        with pytest.raises(RegistryRefusedError, match="an instance has 1 to 255 characters, not 257"):
            await b.registry.hold(named)
        assert len((await a.etcd.list(prefix.encode())).items) == 1


async def test_B4_the_older_of_two_registrars_has_its_record_back_soon_after_the_newer_is_gone(
    shared_etcd: EtcdCluster, prefix: str
) -> None:
    """One lifetime of the lease is how often it looks; the audit is far away."""
    key = f"{prefix}redis-A/redis-1"
    async with (
        host(prefix, *shared_etcd.endpoints, epoch="older", ttl=2) as older,
        host(prefix, *shared_etcd.endpoints, epoch="newer") as newer,
    ):
        await older.registry.hold(REDIS)
        await newer.registry.hold(REDIS)
        await older.registry.hold(replace(REDIS, weight=2))
        assert older.registry.conflicts == 1
        await newer.registry.close(deregister=True)

        async def ours_again() -> bool:
            found = await value(older.etcd, key)
            return found is not None and found["epoch"] == "older"

        await eventually_async(ours_again, 3.5)


async def test_what_was_wished_last_during_an_outage_is_written_after_it(shared_etcd: EtcdCluster, prefix: str) -> None:
    """Also the change of a record that stands; and a release that failed fails again while it is not done."""
    async with FaultProxy(shared_etcd.members[0].url) as gate, host(prefix, gate.url) as a:
        await a.registry.hold(REDIS)
        await a.registry.hold(replace(REDIS, id="redis-2"))
        gate.cut()
        with pytest.raises(RegistryError):
            await a.registry.hold(replace(REDIS, weight=2))
        for _ in range(2):
            with pytest.raises(RegistryError):
                await a.registry.release("redis-A", "redis-2")
        gate.restore()

        async def right() -> bool:
            changed = await value(a.etcd, f"{prefix}redis-A/redis-1") or {}
            return changed.get("weight") == 2 and await value(a.etcd, f"{prefix}redis-A/redis-2") is None

        await eventually_async(right)


async def test_held_again_while_it_leaves_is_held(shared_etcd: EtcdCluster, prefix: str) -> None:
    async with host(prefix, *shared_etcd.endpoints) as a:
        for _ in range(20):
            await a.registry.hold(REDIS)
            await asyncio.gather(a.registry.release("redis-A", "redis-1"), a.registry.hold(REDIS))
            assert await value(a.etcd, f"{prefix}redis-A/redis-1") is not None
