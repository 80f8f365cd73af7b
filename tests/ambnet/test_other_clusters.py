"""A cluster that is not ours at one of our addresses, and a registrar whose etcd came back with an older state."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ambnet.etcd import Etcd, EtcdConfig
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.following import Following
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd


async def test_A10_another_cluster_at_one_address_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours goes for a moment, and who answers in its place knows nothing of us: what is known stands."""
    with EtcdCluster(tmp_path / "ours", size=1) as ours, EtcdCluster(tmp_path / "theirs", size=1) as theirs:
        theirs.etcdctl("put", "/s/evil", "1")
        async with (
            Etcd(EtcdConfig((*ours.endpoints, *theirs.endpoints))) as etcd,
        ):
            etcd._current = etcd._urls.index(ours.endpoints[0])
            await etcd.put(b"/s/a", b"1")
            async with Following(PrefixWatch(etcd, "/s/")) as seen:
                await seen.until({b"/s/a": b"1"})
                await asyncio.to_thread(ours.stop)
                await eventually_async(lambda: _said(caplog, "another cluster answers there"), 20)
                await asyncio.to_thread(ours.start)
                ours.etcdctl("put", "/s/b", "2")
                await seen.until({b"/s/a": b"1", b"/s/b": b"2"}, 20)
                known = [set(message.items) for message in seen.messages if hasattr(message, "items")]
                assert all(any(item.key == b"/s/a" for item in items) for items in known)
                assert b"/s/evil" not in seen.contents


async def test_A10_another_cluster_at_every_address_is_believed(tmp_path: Path) -> None:
    """Somebody has replaced ours: with the first answers of both members, not after a time."""
    with EtcdCluster(tmp_path / "theirs", size=2) as theirs:
        theirs.etcdctl("put", "/s/new", "1")
        with EtcdCluster(tmp_path / "ours", size=1) as ours:
            async with Etcd(EtcdConfig(ours.endpoints)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
                await etcd.put(b"/s/a", b"1")
                await seen.until({b"/s/a": b"1"})
                moved = Etcd(EtcdConfig(theirs.endpoints))
                async with moved:
                    etcd._urls, etcd._endpoints, etcd._current = moved._urls, moved._endpoints, 0
                    await asyncio.to_thread(ours.stop)
                    await seen.until({b"/s/new": b"1"}, 20)


async def _said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text
