"""List-then-watch: what a reader is told, whatever happens to the stream."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from ambcore.history import KeyValue, Listed
from ambcore.replay import Reply
from ambcore.states import Watch
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.etcd.protocol import rpc
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_etcd import FakeEtcd
from tests.support.fault_proxy import FaultProxy
from tests.support.following import Following
from tests.support.waiting import eventually_async
from tests.support.watch_histories import Tape, World, stream

pytestmark = pytest.mark.etcd


@pytest_asyncio.fixture
async def etcd(shared_etcd: EtcdCluster) -> AsyncIterator[Etcd]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as client:
        yield client


def key(prefix: str, name: str) -> bytes:
    return f"{prefix}{name}".encode()


async def test_first_everything_then_every_change(etcd: Etcd, prefix: str) -> None:
    await etcd.put(key(prefix, "a"), b"1")
    async with Following(PrefixWatch(etcd, prefix)) as seen:
        await seen.until({key(prefix, "a"): b"1"})
        assert isinstance(seen.messages[0], Listed)
        await etcd.put(key(prefix, "b"), b"2")
        await etcd.delete(key(prefix, "a"))
        await seen.until({key(prefix, "b"): b"2"})
        assert seen.lists == 1
        assert seen.watch.state.value == "watching"
        assert (seen.watch.age() or 99) < 5
    assert seen.watch.state.value == "closed"


async def test_an_empty_prefix_is_told_as_a_list(etcd: Etcd, prefix: str) -> None:
    """Empty is not unknown."""
    watch = PrefixWatch(etcd, prefix)
    assert watch.age() is None
    async with Following(watch) as seen:
        await seen.until_listed()
        assert seen.messages == [Listed((), watch.revision)]


async def test_what_is_outside_the_prefix_is_not_told(etcd: Etcd, prefix: str) -> None:
    async with Following(PrefixWatch(etcd, prefix)) as seen:
        await seen.until_listed()
        await etcd.put(prefix.rstrip("/").encode() + b"0", b"beside")
        await etcd.put(key(prefix, "a"), b"1")
        await seen.until({key(prefix, "a"): b"1"})
        assert len(seen.events) == 1


async def test_what_a_busy_reader_missed_is_merged(etcd: Etcd, prefix: str) -> None:
    async with PrefixWatch(etcd, prefix) as watch:
        assert isinstance(await anext(watch), Listed)
        for number in range(50):
            last = await etcd.put(key(prefix, "a"), b"%d" % number)

        async def caught_up() -> bool:
            return watch.revision == last

        await eventually_async(caught_up)
        message = await anext(watch)
        assert not isinstance(message, Listed)
        assert message.events == (KeyValue(key(prefix, "a"), b"49", last),)


async def test_the_audit_finds_nothing_to_put_right(etcd: Etcd, prefix: str) -> None:
    """While the prefix changes, with an audit several times a second."""
    async with Following(PrefixWatch(etcd, prefix, relist=0.05, patience=1.0)) as seen:
        await seen.until_listed()
        number = 0
        while seen.watch.audits < 5:
            name = key(prefix, str(number % 7))
            await (etcd.delete(name) if number % 3 == 2 else etcd.put(name, b"%d" % number))
            number += 1
        contents = {item.key: item.value for item in (await etcd.list(prefix.encode())).items}
        await seen.until(contents)
        assert seen.watch.drift_total == 0
        assert seen.lists == 1


async def test_A16_txn_storm(etcd: Etcd, prefix: str) -> None:
    """One transaction of 128 writes is one message: nobody sees half of it."""
    puts = [
        rpc.RequestOp(request_put=rpc.PutRequest(key=key(prefix, str(number)), value=b"v" * 1000))
        for number in range(128)
    ]
    async with Following(PrefixWatch(etcd, prefix)) as seen:
        await seen.until_listed()
        await etcd._call("kv", "Txn", rpc.TxnRequest(success=puts))
        await seen.until({key(prefix, str(number)): b"v" * 1000 for number in range(128)})
        assert len(seen.messages) == 2
        assert len({event.revision for event in seen.events}) == 1


async def test_a_lost_event_is_found_by_the_audit() -> None:
    """The fake changes its contents and never tells: the list is right, and the difference is counted."""
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:
        fake.keys[b"/s/a"] = KeyValue(b"/s/a", b"1", 1)
        changed = asyncio.Event()

        async def tell(start: int) -> AsyncIterator[Reply]:
            yield Reply(1, 7, 3, created=True)
            await changed.wait()
            while True:
                await asyncio.sleep(0.05)
                yield Reply(fake.revision, 7, 3)

        fake.watcher = tell
        async with Following(PrefixWatch(etcd, "/s/", relist=0.1)) as seen:
            await seen.until({b"/s/a": b"1"})
            fake.revision, fake.keys = 2, {b"/s/b": KeyValue(b"/s/b", b"2", 2)}
            changed.set()
            await seen.until({b"/s/b": b"2"})
            assert seen.watch.drift_total == 2


async def test_A22_watch_fuzz_through_a_server() -> None:
    """Histories of the pure test, spoken by a real gRPC server: streams, retries and clocks take part."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(40):
        world = World(Tape(chance.randbytes(60)))

        def tell(start: int, world: World = world) -> Iterable[Reply]:
            return stream(world, start)

        async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:
            fake.snapshot, fake.watcher = world.snapshot, tell
            async with Following(PrefixWatch(etcd, "/s/", pauses=(0.001, 0.002))) as seen:

                async def told(world: World = world, seen: Following = seen) -> bool:
                    truth = {item.key: item.value for item in world.contents.values()}
                    return world.tape.over and seen.contents == truth

                await eventually_async(told, 20, f"history {number} of seed {seed}")


@pytest.mark.parametrize("mute", [None, "created"])
async def test_a_mute_watch_is_given_up(mute: str | None) -> None:
    """Silence before the watch is confirmed, and after: both lead to another stream."""
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:

        async def tell(start: int) -> AsyncIterator[Reply]:
            if mute:
                yield Reply(1, 7, 3, created=True)
            await asyncio.Event().wait()
            yield Reply(1, 7, 3)

        fake.watcher = tell
        async with Following(PrefixWatch(etcd, "/s/", probe=0.2, patience=0.1)):

            async def reopened() -> bool:
                return fake.asked("Watch") == [2, 2, 2]

            await eventually_async(reopened)


async def test_A7_pain_15_blackhole(shared_etcd: EtcdCluster, prefix: str) -> None:
    """A connection that swallows everything is left for another; with a probe of 1 s and patience of 0.5 s."""
    other = shared_etcd.members[1].url
    async with FaultProxy(shared_etcd.members[0].url) as gate, Etcd(EtcdConfig((gate.url, other))) as etcd:
        etcd._current = etcd._urls.index(gate.url)
        async with Following(PrefixWatch(etcd, prefix, probe=1.0, patience=0.5)) as seen:

            async def watching() -> bool:
                return seen.watch.state is Watch.WATCHING and seen.watch.revision > 0

            await eventually_async(watching)
            await etcd.put(key(prefix, "a"), b"1")
            await seen.until({key(prefix, "a"): b"1"})
            gate.mute()

            async def moved() -> bool:
                return etcd.endpoint == other and await watching()

            await eventually_async(moved, 4.0)


async def test_A8_pain_15_compaction_behind(shared_etcd: EtcdCluster, prefix: str) -> None:
    """Cut off, a thousand writes later, compacted: a new list, and the difference is all that a reader sees."""
    member = shared_etcd.members[0].url
    async with Etcd(EtcdConfig((member,))) as writer, FaultProxy(member) as gate, Etcd(EtcdConfig((gate.url,))) as etcd:
        await writer.put(key(prefix, "stays"), b"as it is")
        async with Following(PrefixWatch(etcd, prefix)) as seen:
            await seen.until({key(prefix, "stays"): b"as it is"})
            gate.cut()
            for number in range(1000):
                last = await writer.put(key(prefix, "changes"), b"%d" % number)
            await asyncio.to_thread(shared_etcd.etcdctl, "compaction", str(last))
            gate.restore()
            await seen.until({key(prefix, "stays"): b"as it is", key(prefix, "changes"): b"999"})
            assert seen.lists == 2
            assert not seen.events
            assert seen.watch.drift_total == 0


async def test_A9_delete_at_compaction(shared_etcd: EtcdCluster, prefix: str) -> None:
    """Cut off, a deletion, compacted exactly there. An etcd before 3.4.36 leaves the event out, and its watchers would
    keep the key until the next audit: after a break there is one at once.
    """
    member = shared_etcd.members[0].url
    async with Etcd(EtcdConfig((member,))) as writer, FaultProxy(member) as gate, Etcd(EtcdConfig((gate.url,))) as etcd:
        await writer.put(key(prefix, "goes"), b"1")
        async with Following(PrefixWatch(etcd, prefix)) as seen:
            await seen.until({key(prefix, "goes"): b"1"})
            gate.cut()
            await writer.delete(key(prefix, "goes"))
            deleted = (await writer.snapshot(prefix.encode())).revision
            await asyncio.to_thread(shared_etcd.etcdctl, "compaction", str(deleted), "--physical")
            gate.restore()
            await seen.until({}, 10)


async def test_loss_and_return_are_said_once(
    shared_etcd: EtcdCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the client, for all who use it."""
    caplog.set_level(logging.INFO)
    async with (
        FaultProxy(shared_etcd.members[0].url) as gate,
        Etcd(EtcdConfig((gate.url,))) as etcd,
        Following(PrefixWatch(etcd, prefix)) as seen,
        Following(PrefixWatch(etcd, "/other" + prefix)) as other,
    ):

        async def watching() -> bool:
            return {seen.watch.state, other.watch.state} == {Watch.WATCHING} and caplog.text.count("watching") == 2

        await eventually_async(watching)
        caplog.clear()
        gate.cut()

        async def tried_often() -> bool:
            return min(seen.watch.restarts, other.watch.restarts) >= 4

        await eventually_async(tried_often)
        assert seen.watch.state is Watch.BROKEN
        assert seen.watch.last_error
        gate.restore()

        async def back() -> bool:
            return {seen.watch.state, other.watch.state} == {Watch.WATCHING}

        await eventually_async(back)
        assert [(record.name, record.levelname) for record in caplog.records] == [("etcd", "WARNING"), ("etcd", "INFO")]


async def test_what_one_member_knows_is_told_when_there_is_no_majority_at_the_start(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with EtcdCluster(tmp_path_factory.mktemp("minority")) as cluster:
        cluster.etcdctl("put", "/s/a", "1")
        for member in cluster.members[1:]:
            member.suspend()
        async with Etcd(EtcdConfig((cluster.members[0].url,))) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
            await seen.until({b"/s/a": b"1"}, 15)
            assert seen.watch.stale
            assert seen.watch.age() is None
            for member in cluster.members[1:]:
                member.resume()

            async def certain() -> bool:
                return not seen.watch.stale and seen.watch.age() is not None

            await eventually_async(certain, 10)


async def test_an_unforeseen_error_reaches_the_reader(etcd: Etcd, prefix: str) -> None:
    """No path leaves a watch silently dead, not even a defect of ours."""
    async with PrefixWatch(etcd, prefix) as watch:
        await anext(watch)

        def defect(_: Reply) -> None:
            raise ZeroDivisionError

        watch._replay.digest = defect  # type: ignore[assignment, method-assign]
        await etcd.put(key(prefix, "a"), b"1")
        with pytest.raises(ZeroDivisionError):
            await anext(watch)
