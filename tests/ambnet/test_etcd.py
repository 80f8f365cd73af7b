"""The client against three real members."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ambcore.errors import RegistryError, RegistryRefusedError, RegistryUnavailableError
from ambcore.history import KeyValue
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.etcd.protocol import grpc, rpc
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_etcd import FakeEtcd
from tests.support.ports import free_port

pytestmark = pytest.mark.etcd


@pytest_asyncio.fixture
async def etcd(shared_etcd: EtcdCluster) -> AsyncIterator[Etcd]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as client:
        yield client


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path) as cluster:
        yield cluster


async def test_what_is_put_is_got_and_deleted(etcd: Etcd, prefix: str) -> None:
    key = prefix.encode() + b"k"
    revision = await etcd.put(key, b"v")
    assert await etcd.get(key) == KeyValue(key, b"v", revision)
    assert await etcd.delete(key)
    assert not await etcd.delete(key)
    assert await etcd.get(key) is None


async def test_a_list_in_pages_is_of_one_revision(etcd: Etcd, prefix: str) -> None:
    for number in range(25):
        await etcd.put(f"{prefix}{number:02}".encode(), b"v")
    listed = await etcd.list(prefix.encode(), limit=4)
    assert [item.key for item in listed.items] == [f"{prefix}{number:02}".encode() for number in range(25)]
    assert listed.revision >= max(item.revision for item in listed.items)


async def test_a_list_that_is_compacted_between_two_pages_begins_anew(
    etcd: Etcd, shared_etcd: EtcdCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await etcd.put(f"{prefix}{number}".encode(), b"v")
    call, pages = etcd._call, 0

    async def compacting(*arguments: object, **options: object) -> object:
        nonlocal pages
        pages += 1
        if pages == 2:
            revision = await etcd.put(f"{prefix}9".encode(), b"v")
            await asyncio.to_thread(shared_etcd.etcdctl, "compaction", str(revision))
        return await call(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(etcd, "_call", compacting)
    listed = await etcd.list(prefix.encode(), limit=2)
    assert len(listed.items) == 7
    assert pages > 5


async def test_a_conditional_write_needs_the_revision_seen(etcd: Etcd, prefix: str) -> None:
    key = prefix.encode() + b"k"
    first = await etcd.put_if(key, b"1", 0, revision=0)
    assert isinstance(first, int)
    assert await etcd.put_if(key, b"2", 0, revision=0) == KeyValue(key, b"1", first)
    second = await etcd.put_if(key, b"2", 0, revision=first)
    assert isinstance(second, int)
    assert not await etcd.delete_if(key, revision=first)
    assert await etcd.delete_if(key, revision=second)
    assert await etcd.put_if(key, b"3", 0, revision=second) is None


async def test_a_lease_takes_its_keys_along(etcd: Etcd, prefix: str) -> None:
    lease, ttl = await etcd.grant(30)
    assert ttl == 30
    assert (await etcd.time_to_live(lease) or 0) > 20
    await etcd.put(prefix.encode() + b"k", b"v", lease)
    await etcd.revoke(lease)
    assert await etcd.get(prefix.encode() + b"k") is None
    assert await etcd.time_to_live(lease) is None


async def test_a_request_that_is_too_large_is_refused_not_repeated(etcd: Etcd, prefix: str) -> None:
    with pytest.raises(RegistryRefusedError, match="too large"):
        await etcd.put(prefix.encode() + b"k", b"v" * 1_700_000)


async def test_the_next_member_is_asked_when_one_is_dead(
    shared_etcd: EtcdCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads and writes alike: a connection that was never made carried nothing. Said once, in one line."""
    dead = f"http://127.0.0.1:{free_port()}"
    config = EtcdConfig((dead, shared_etcd.members[0].url))
    with caplog.at_level(logging.INFO, "ambnet"):
        for _ in range(4):  # the order is shuffled at the start
            async with Etcd(config) as etcd:
                await etcd.put(prefix.encode() + b"k", b"v")
                assert etcd.endpoint == shared_etcd.members[0].url
                assert etcd.connected
    for record in caplog.records:
        assert "\n" not in record.getMessage()


async def test_an_unreachable_etcd_is_said_once_and_is_an_error_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async with Etcd(EtcdConfig((f"http://127.0.0.1:{free_port()}",))) as etcd:
        started = time.monotonic()
        with caplog.at_level(logging.INFO, "ambnet"), pytest.raises(RegistryUnavailableError):
            await etcd.get(b"k")
        assert time.monotonic() - started < 6
        assert not etcd.connected
        assert etcd.last_error
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_closed_client_says_so(shared_etcd: EtcdCluster) -> None:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd:
        await etcd.aclose()
        with pytest.raises(RegistryError, match="closed"):
            await etcd.get(b"k")


async def test_A2_leader_kill(own_cluster: EtcdCluster) -> None:
    """Writes resume within five seconds."""
    async with Etcd(EtcdConfig(own_cluster.endpoints)) as etcd:
        await etcd.put(b"/k", b"1")
        leader = await asyncio.to_thread(own_cluster.leader)
        leader.kill()
        started = time.monotonic()
        while True:
            try:
                await etcd.put(b"/k", b"2")
                break
            except RegistryUnavailableError:
                assert time.monotonic() - started < 5
        assert time.monotonic() - started < 5


async def test_A15_big_prefix(etcd: Etcd, prefix: str) -> None:
    """20 MiB in 20,000 keys come in pages, of one revision."""
    for first in range(0, 20_000, 100):
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=f"{prefix}{number:05}".encode(), value=b"x" * 1024))
            for number in range(first, first + 100)
        ]
        await etcd._call("kv", "Txn", rpc.TxnRequest(success=puts))
    before = _resident()
    listed = await etcd.list(prefix.encode())
    assert len({item.key for item in listed.items}) == 20_000
    assert _resident() - before < 100 << 20
    await etcd._call("kv", "DeleteRange", rpc.DeleteRangeRequest(key=prefix.encode(), range_end=prefix.encode() + b"~"))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_A21_endpoint_garbage(shared_etcd: EtcdCluster) -> None:
    """One endpoint has no address, one speaks HTTP/1.1: the third serves within three seconds."""

    async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    async with server:
        old = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        nowhere = "http://nowhere.invalid:2379"
        for _ in range(4):  # the order is shuffled at the start
            async with Etcd(EtcdConfig((nowhere, old, shared_etcd.members[0].url))) as etcd:
                started = time.monotonic()
                await etcd.put(b"/garbage", b"v")
                assert time.monotonic() - started < 3


async def test_a_write_whose_answer_is_lost_is_not_repeated() -> None:
    async with FakeEtcd() as fake, Etcd(EtcdConfig((fake.url,))) as etcd:
        fake.refusals.append((grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out"))
        with pytest.raises(RegistryUnavailableError):
            await etcd.put_if(b"/k", b"v", 0, revision=0)
        assert len(fake.asked("Txn")) == 1
