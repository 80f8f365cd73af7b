"""What is larger than a message: others may write records of 1.5 MiB beside ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ambcore.errors import RegistryRefusedError
from ambcore.history import KeyValue
from ambcore.replay import Reply
from ambcore.states import Watch
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_etcd import FakeEtcd
from tests.support.fault_proxy import FaultProxy
from tests.support.following import Following
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

MIB = 1 << 20
LARGE = {b"/s/%02d" % number: bytes([number]) * (MIB * 14 // 10) for number in range(60)}  # 84 MiB, of 64 in a message


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path, size=1) as cluster:
        yield cluster


async def write_all(cluster: EtcdCluster) -> None:
    async with Etcd(EtcdConfig(cluster.endpoints)) as writer:
        for key, value in LARGE.items():
            await writer.put(key, value)


async def test_a_list_whose_page_is_larger_than_a_message_is_read_in_smaller_ones(cluster: EtcdCluster) -> None:
    await write_all(cluster)
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd:
        assert {item.key: item.value for item in (await etcd.list(b"/s/")).items} == LARGE


async def test_a_record_larger_than_a_message_is_refused() -> None:
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:
        fake.keys[b"/s/a"] = KeyValue(b"/s/a", bytes(65 * MIB), 1)
        with pytest.raises(RegistryRefusedError):
            await etcd.list(b"/s/")


async def test_a_watch_resumes_across_more_than_a_message_holds(cluster: EtcdCluster) -> None:
    """It is told in pieces, and its reader of changes."""
    async with (
        FaultProxy(cluster.members[0].url) as gate,
        Etcd(EtcdConfig((gate.url,))) as etcd,
        Following(PrefixWatch(etcd, "/s/")) as seen,
    ):
        await seen.until_listed()
        gate.cut()
        await write_all(cluster)
        gate.restore()
        await seen.until(LARGE, 20)
        assert seen.lists == 1
        assert seen.watch.state is Watch.WATCHING


async def test_a_reply_that_cannot_be_taken_leads_to_a_list() -> None:
    """As of something in front of etcd that does not tell in pieces."""
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:

        async def tell(start: int) -> AsyncIterator[Reply]:
            yield Reply(fake.revision, 7, 3, created=True)
            if start == 2:
                fake.revision, fake.keys = 3, {b"/s/b": KeyValue(b"/s/b", b"2", 3)}
                yield Reply(3, 7, 3, events=(KeyValue(b"/s/a", bytes(65 * MIB), 2),))
            await asyncio.Event().wait()

        fake.watcher = tell
        async with Following(PrefixWatch(etcd, "/s/")) as seen:
            await seen.until({b"/s/b": b"2"}, 10)
            assert seen.lists == 2


async def test_a_watch_that_breaks_whenever_it_is_confirmed_is_opened_again_with_pauses_that_grow() -> None:
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:
        fake.watcher = lambda _: [Reply(1, 7, 3, created=True)]
        async with Following(PrefixWatch(etcd, "/s/")) as seen:
            began = time.monotonic()

            async def broken_often() -> bool:
                return seen.watch.restarts >= 6

            await eventually_async(broken_often)
            assert time.monotonic() - began > 0.7  # half of the pauses' sum: 0.05, 0.1, 0.2, 0.4, 0.8
