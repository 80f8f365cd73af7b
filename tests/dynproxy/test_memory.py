"""What a process knew is on disk for the next one: written in one step, read with suspicion."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from ambcore.admission import Admission
from ambcore.errors import ConfigError
from ambcore.history import KeyValue, Listed
from ambcore.model import Address
from ambcore.remembered import Remembered, encode
from ambcore.replay import Snapshot
from ambcore.table import Reader
from ambnet.daemon import background
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.fleet import DrainWatch
from ambnet.watch import PrefixWatch
from dynproxy.config import read
from dynproxy.memory import OLDEST, Memory
from dynproxy.sources import EtcdSource
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd


@pytest_asyncio.fixture
async def etcd(shared_etcd: EtcdCluster) -> AsyncIterator[Etcd]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as client:
        yield client


async def remembered(etcd: Etcd, prefix: str, folder: Path) -> Path:
    """A life that knew one record and ended; the file that it left."""
    await etcd.put(f"{prefix}one".encode(), b"\x00\xff 10.0.0.1:80")
    memory = Memory(folder)
    async with PrefixWatch(etcd, prefix) as watch:
        memory.keep(prefix, watch)
        assert isinstance(await anext(watch), Listed)
        await memory.leave(prefix)
    (name,) = os.listdir(folder)  # noqa: PTH208
    return folder / name


async def test_what_was_known_at_the_end_is_known_to_the_next_life(etcd: Etcd, prefix: str, tmp_path: Path) -> None:
    path = await remembered(etcd, prefix, tmp_path / "new" / "state")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    known = Memory(path.parent).recall(prefix)
    assert known is not None
    assert [(item.key, item.value) for item in known.snapshot.items] == [
        (f"{prefix}one".encode(), b"\x00\xff 10.0.0.1:80")
    ]
    assert known.snapshot.revision
    assert known.snapshot.cluster_id
    assert known.age < 5
    assert Memory(path.parent).recall("/services/other/") is None
    assert Memory(None).recall(prefix) is None


async def test_a_change_is_written_while_the_process_runs(etcd: Etcd, prefix: str, tmp_path: Path) -> None:
    """Not only at its end, which may come without notice."""
    memory = Memory(tmp_path)
    async with PrefixWatch(etcd, prefix) as watch, background(memory.run):
        memory.keep(prefix, watch)
        await etcd.put(f"{prefix}one".encode(), b"1")

        async def known() -> bool:
            found = memory.recall(prefix)
            return found is not None and [item.value for item in found.snapshot.items] == [b"1"]

        await eventually_async(known, 20)
    assert [name.rpartition(".")[2] for name in os.listdir(tmp_path)] == ["memory"]  # noqa: PTH208


async def test_nothing_is_written_while_it_is_paused(etcd: Etcd, prefix: str, tmp_path: Path) -> None:
    """What is held shall not be forgotten by a restart because etcd has forgotten it."""
    path = await remembered(etcd, prefix, tmp_path)
    before = path.read_bytes()
    await etcd.delete(f"{prefix}one".encode())
    memory = Memory(tmp_path)
    async with PrefixWatch(etcd, prefix) as watch:
        memory.keep(prefix, watch, lambda: True)
        assert await anext(watch)
        await memory.leave(prefix)
    assert path.read_bytes() == before


@pytest.mark.parametrize("harm", ["torn", "foreign", "fifo", "link", "writable", "old", "unreadable"])
async def test_a_file_that_cannot_be_believed_is_refused_in_one_line(
    etcd: Etcd, prefix: str, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = await remembered(etcd, prefix, tmp_path)
    whole, late = path.read_bytes(), time.time() - OLDEST - 3600
    memory = Memory(tmp_path)
    path.unlink()
    match harm:
        case "torn":
            path.write_bytes(whole[: len(whole) // 2])
        case "foreign":
            path.write_bytes(whole.replace(prefix.encode(), b"/elsewhere/"))
        case "fifo":
            os.mkfifo(path, 0o600)
        case "link":
            (tmp_path / "target").write_bytes(whole)
            path.symlink_to("target")
        case "writable":
            path.write_bytes(whole)
            path.chmod(0o666)
        case "old":
            path.write_bytes(whole)
            os.utime(path, (late, late))
        case "unreadable":
            path.mkdir()
    caplog.clear()
    assert memory.recall(prefix) is None
    assert len(caplog.records) == 1
    assert "is not believed" in caplog.text


async def test_files_nobody_would_believe_are_removed_at_the_start(etcd: Etcd, prefix: str, tmp_path: Path) -> None:
    path = await remembered(etcd, prefix, tmp_path)
    late = time.time() - OLDEST - 3600
    kept = tmp_path / "somebody's"
    kept.touch()
    for each in (path, kept):
        os.utime(each, (late, late))
    Memory(tmp_path)
    assert os.listdir(tmp_path) == [kept.name]  # noqa: PTH208


async def test_a_clock_that_was_set_back_is_said_and_the_age_is_none(
    etcd: Etcd, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = await remembered(etcd, prefix, tmp_path)
    os.utime(path, (time.time() + 3600, time.time() + 3600))
    known = Memory(tmp_path).recall(prefix)
    assert known is not None
    assert known.age == 0.0
    assert "clock was set back" in caplog.text


async def test_a_disk_that_cannot_be_written_is_said_once_and_costs_nothing_else(
    etcd: Etcd, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    memory = Memory(tmp_path / "file" / "state")
    async with PrefixWatch(etcd, prefix) as watch:
        memory.keep(prefix, watch)
        assert await anext(watch)
        await memory.leave(prefix)
    assert memory.error is not None
    assert [record.levelno for record in caplog.records if record.name == "memory"] == [logging.WARNING]


async def test_without_a_thread_it_is_said_that_nothing_is_kept(
    etcd: Etcd, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    memory = Memory(tmp_path)
    async with PrefixWatch(etcd, prefix) as watch:
        memory.keep(prefix, watch)
        assert await anext(watch)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            await memory.leave(prefix)
    assert "no thread can be started" in (memory.error or "")


class HeldUp:
    """fsync(2) of a disk that lets each write through when it is told to."""

    def __init__(self) -> None:
        self.writes: list[threading.Event] = []

    def __call__(self, _descriptor: int) -> None:
        self.writes.append(may_pass := threading.Event())
        assert may_pass.wait(30)


async def test_a_write_that_the_disk_held_up_does_the_next_no_harm(
    etcd: Etcd, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one of a life may begin while one that was given up is under way: neither tears what the other has."""
    disk = HeldUp()
    monkeypatch.setattr(os, "fsync", disk)
    memory = Memory(tmp_path)

    async def under_way(writes: int) -> bool:
        return len(disk.writes) == writes

    async def recalled(value: bytes) -> bool:
        known = memory.recall(prefix)
        return known is not None and [item.value for item in known.snapshot.items] == [value]

    await etcd.put(f"{prefix}one".encode(), b"1")
    async with PrefixWatch(etcd, prefix) as watch:
        memory.keep(prefix, watch)
        assert isinstance(await anext(watch), Listed)
        async with background(memory.run):
            await eventually_async(partial(under_way, 1))
        await etcd.put(f"{prefix}one".encode(), b"2")
        assert await anext(watch)
        leaving = asyncio.create_task(memory.leave(prefix))
        await eventually_async(partial(under_way, 2))
        disk.writes[0].set()
        await eventually_async(partial(recalled, b"1"))
        disk.writes[1].set()
        await leaving
        await eventually_async(partial(recalled, b"2"))
    assert memory.error is None
    assert len(os.listdir(tmp_path)) == 1  # noqa: PTH208


async def test_without_etcd_the_watch_goes_on_with_what_was_known(etcd: Etcd, prefix: str, tmp_path: Path) -> None:
    """Two seconds after its start, and it says how old that is; when etcd answers its list replaces it."""
    await remembered(etcd, prefix, tmp_path)
    known = Memory(tmp_path).recall(prefix)
    assert known is not None
    known = Remembered(known.snapshot, 600.0)
    away = EtcdConfig((f"http://127.0.0.1:{free_port()}",))
    async with Etcd(away) as nobody, PrefixWatch(nobody, prefix, remembered=known) as watch:
        assert (watch.age() or 0.0) >= 600
        assert await asyncio.wait_for(anext(watch), 10) == Listed(known.snapshot.items, known.snapshot.revision)
        assert watch.recalled
        assert 600 <= (watch.age() or 0.0) < 620
    await etcd.delete(f"{prefix}one".encode())
    async with PrefixWatch(etcd, prefix, remembered=known) as watch:
        listed = await asyncio.wait_for(anext(watch), 10)
        assert isinstance(listed, Listed)
        assert (listed.items, listed.past, watch.recalled) == ((), 0, False)
        assert (watch.age() or 0.0) < 60


async def test_what_is_remembered_is_as_little_trusted_as_etcd_is(tmp_path: Path) -> None:
    """Whoever could write the file still cannot send clients where no record may."""
    prefix = "/services/s/"
    values = {"good": "10.0.0.1:80", "metadata": "169.254.169.254:80", "own": "10.0.0.9:80", "junk": "\x00"}
    items = tuple(KeyValue(f"{prefix}{name}".encode(), value.encode(), 1) for name, value in values.items())
    memory = Memory(tmp_path)
    path = memory._path(prefix)
    path.write_bytes(encode(prefix, Snapshot(items, 9)))
    path.chmod(0o600)
    reader = Reader("/services/", Admission(own={Address("10.0.0.9", 80)}))
    async with Etcd(EtcdConfig((f"http://127.0.0.1:{free_port()}",))) as nobody, DrainWatch(nobody) as drains:
        source = EtcdSource(nobody, "s", reader, drains, relist=300.0, hold=0.1, memory=memory)
        async with source, contextlib.aclosing(source.snapshots()) as snapshots:
            assert [item.id for item in await asyncio.wait_for(anext(snapshots), 15)] == ["good"]
            assert set(source.sight().refused) == {f"{prefix}{name}" for name in ("metadata", "own", "junk")}
            assert source.sight().recalled
    assert path.read_bytes() == encode(prefix, Snapshot(items, 9))


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ("", {}, None),
        ("", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ("", {"AMB_STATE": "/state", "STATE_DIRECTORY": "/var/lib/a"}, "/state"),
        ("--state /here", {"AMB_STATE": "/state"}, "/here"),
    ],
)
def test_the_directory_is_an_option_a_variable_or_systemds(
    arguments: str, variables: dict[str, str], expected: str | None
) -> None:
    found = read(["redis-A", "6379", *arguments.split()], variables).state
    assert found == (None if expected is None else Path(expected))


def test_a_directory_that_depends_on_where_one_stands_is_refused() -> None:
    with pytest.raises(ConfigError, match="--state"):
        read(["redis-A", "6379", "--state", "state"], {})
