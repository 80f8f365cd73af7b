"""Members that die, lose their leader or their past, under a client that watches. Each test has its own cluster."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ambcore.errors import RegistryRefusedError, RegistryUnavailableError
from ambcore.states import Watch
from ambnet.etcd import Etcd, EtcdConfig, endpoint
from ambnet.lease import LeaseKeeper
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.following import Following
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

Figure = Callable[[str], None]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path) as started:
        yield started


async def settled(watch: PrefixWatch, restarts: int = 0) -> None:
    """Until the watch goes on after at least so many restarts."""

    async def goes_on() -> bool:
        return watch.state is Watch.WATCHING and watch.restarts >= restarts and watch.last_error is None

    await eventually_async(goes_on)


async def test_A1_member_kill(cluster: EtcdCluster, figure: Figure) -> None:
    """The member of our watch dies under a writer: resumed within 2 s, every event told, in order, once."""
    stop = asyncio.Event()

    async def write(others: tuple[str, ...]) -> int:
        async with Etcd(EtcdConfig(others)) as writer:
            number = 0
            while not stop.is_set():
                try:
                    await writer.put(b"/s/%06d" % number, b"v")
                except RegistryUnavailableError:
                    continue  # its outcome is unknown: write it again, which is an event of its own
                number += 1
            return number

    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        await settled(seen.watch)
        victim = cluster.member_of(etcd.endpoint)
        writing = asyncio.create_task(write(tuple(url for url in cluster.endpoints if url != victim.url)))
        await eventually_async(lambda: _true(len(seen.events) > 20))
        victim.kill()
        started = time.monotonic()
        await settled(seen.watch, 1)
        took = time.monotonic() - started
        assert took < 2
        told = len(seen.events)
        await eventually_async(lambda: _true(len(seen.events) > told + 20))
        stop.set()
        written = await writing
        await seen.until({b"/s/%06d" % number: b"v" for number in range(written)})
        revisions = [event.revision for event in seen.events]
        assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))
        assert seen.lists == 1
    figure(f"watching again after {took:.2f} s; {len(revisions)} events, none lost, none twice")


async def _true(value: bool) -> bool:
    return value


async def test_A4_total_outage_long(cluster: EtcdCluster) -> None:
    """All members down for 15 s (shortened from ten minutes: the longest pause, 3 s, is reached within 10 s).

    The contents stand, their age tells how old they are, and 5 s after the return all is known.
    """
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        await etcd.put(b"/s/a", b"1")
        await seen.until({b"/s/a": b"1"})
        cluster.stop()
        await eventually_async(lambda: _true((seen.watch.age() or 0) > 15), 20)
        assert seen.watch.state is Watch.BROKEN
        assert seen.watch.last_error
        assert not etcd.connected
        assert seen.contents == {b"/s/a": b"1"}
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.etcdctl, "put", "/s/b", "2")
        await seen.until({b"/s/a": b"1", b"/s/b": b"2"}, 5)
        assert (seen.watch.age() or 99) < 5
        assert seen.watch.drift_total == 0


async def test_A6_member_without_leader(cluster: EtcdCluster) -> None:
    """Our member is alive but cut off from the others: its stream ends instead of falling silent."""
    alone, *others = cluster.members
    async with Etcd(EtcdConfig((alone.url,))) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        await settled(seen.watch)
        for member in others:
            member.suspend()
        started = time.monotonic()
        await eventually_async(lambda: _true(seen.watch.state is Watch.BROKEN), 6)
        assert time.monotonic() - started < 6
        for member in others:
            member.resume()
        await settled(seen.watch, 1)
        await etcd.put(b"/s/a", b"1")
        await seen.until({b"/s/a": b"1"})


async def test_A11_stale_member(cluster: EtcdCluster) -> None:
    """A member that slept while the others went on never takes our view back to an older revision."""
    sleeper = cluster.members[0]
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd:
        etcd._current = etcd._urls.index(sleeper.url)
        async with Following(PrefixWatch(etcd, "/s/", probe=0.5, patience=0.3)) as seen:
            await settled(seen.watch)
            sleeper.suspend()
            await eventually_async(lambda: _true(etcd.endpoint != sleeper.url))
            for number in range(50):
                await etcd.put(b"/s/a", b"%d" % number)
            await seen.until({b"/s/a": b"49"})
            sleeper.resume()
            etcd._current = etcd._urls.index(sleeper.url)
            assert await etcd.get(b"/s/a") is not None
            revisions = [message.revision for message in seen.messages]
            assert revisions == sorted(revisions)
            assert seen.contents == {b"/s/a": b"49"}


@pytest.mark.parametrize("token", ["the same", "another"])
async def test_A10_revision_rollback(tmp_path: Path, token: str, figure: Figure) -> None:
    """The cluster loses its past. With another id, or with the same one and a lower revision: listed anew in 2 s."""
    with EtcdCluster(tmp_path, size=1) as cluster:
        member = cluster.members[0]
        async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
            for number in range(20):
                await etcd.put(b"/s/a", b"%d" % number)
            await seen.until({b"/s/a": b"19"})
            member.kill()
            shutil.rmtree(member.folder / "data")
            if token == "another":
                member.command = [*member.command, "--initial-cluster-token", "another"]
            await asyncio.to_thread(cluster.start)
            started = time.monotonic()
            await seen.until({}, 3)
            took = time.monotonic() - started
            assert took < 2
            figure(f"cluster id {token}: listed anew {took:.2f} s after it serves")
            await etcd.put(b"/s/b", b"new")
            await seen.until({b"/s/b": b"new"})


async def test_any_order_of_restarts_converges(cluster: EtcdCluster) -> None:
    """One member after the other, and the reader still knows all."""
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        for number, member in enumerate(cluster.members):
            member.kill()
            member.start()
            await asyncio.to_thread(cluster.wait_healthy)
            await etcd.list(b"/s/")  # a connected client writes at once
            await etcd.put(b"/s/a", b"%d" % number)
            await seen.until({b"/s/a": b"%d" % number})
        assert seen.watch.drift_total == 0


async def test_A19_nospace_alarm(tmp_path: Path) -> None:
    """The quota is used up: writes are refused and say so, what stands is kept alive."""
    quota = ["--quota-backend-bytes", str(4 << 20)]
    with EtcdCluster(tmp_path, size=1, options=quota) as cluster:
        async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, LeaseKeeper(etcd, 3) as keeper:
            await etcd.put(b"/s/a", b"1", await keeper.held(5))
            with pytest.raises(RegistryRefusedError, match="space exceeded"):
                await fill(etcd)
            full = time.monotonic()
            await eventually_async(lambda: _true(keeper._renewed > full + keeper.ttl), 10)
            assert keeper.grants == 1
            assert await etcd.get(b"/s/a") is not None


async def fill(etcd: Etcd) -> None:
    for number in range(20):
        await etcd.put(b"/filler/%d" % number, b"x" * (1 << 20))


@pytest.mark.parametrize("least", ["500ms", "5s"])
async def test_A17_too_many_pings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: str) -> None:
    """An idle watch pings half as often as etcd puts up with, here ten times faster than in earnest: never sent away.

    The control: against etcd's own limit of 5 s the same pings are too many, and the test sees it.
    """
    faster = tuple((name, 1_000 if name == "grpc.keepalive_time_ms" else value) for name, value in endpoint.OPTIONS)
    assert dict(endpoint.OPTIONS)["grpc.keepalive_time_ms"] >= 2 * 5_000
    monkeypatch.setattr(endpoint, "OPTIONS", faster)
    with EtcdCluster(tmp_path, size=1, options=["--grpc-keepalive-min-time", least]) as cluster:
        async with Etcd(EtcdConfig(cluster.endpoints)) as etcd, PrefixWatch(etcd, "/s/", probe=60) as watch:
            await settled(watch)
            if least == "5s":
                await eventually_async(lambda: _true(watch.restarts > 0))
            else:
                await asyncio.sleep(8)  # the rule is that nothing happens for a time; the control takes about four
                assert watch.restarts == 0
