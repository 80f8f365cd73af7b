"""What etcd last told, on disk, so that the next life of this process can serve while etcd is away.

A file for each prefix, mode 0600, replaced in one step, never written in place. Its time of change is when etcd last
proved what it says. Trouble with the disk is said once and costs nothing but the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ambcore.remembered import LARGEST, Remembered, decode, encode
from ambcore.replay import Snapshot
from ambnet.saying import Saying
from ambnet.threads import in_thread
from ambnet.watch import PrefixWatch

log = logging.getLogger("memory")

LOOK = 1.0  # seconds between two looks whether there is something to write
PAUSE = 5.0  # seconds between two writes of a file at least
SHARE = 0.01  # of the time may be spent with writing one
PROVE = 30.0  # seconds between two notes of when an unchanged file was last proved
LAST_WRITE = 2.0  # seconds that the end of a process waits for its disk
OLDEST = 7 * 86400.0  # seconds; whoever served a week ago may be anybody now
SUFFIX = ".memory"


@dataclass(eq=False, slots=True)
class _Kept:
    """A watch whose contents are kept. `told` is its count of messages at the last write, at `written`."""

    watch: PrefixWatch
    paused: Callable[[], bool]
    told: int = 0
    written: float = 0.0
    pause: float = PAUSE


class Memory:
    """`directory` of None: no memory at all. Runs by `run`; `error` says why nothing can be written, None if it can."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.error: str | None = None
        self._kept: dict[str, _Kept] = {}
        self._saying = Saying(log)
        if directory is not None:
            self._prepare(directory)

    def recall(self, prefix: str) -> Remembered | None:
        """What an earlier life knew of a prefix; None where there is nothing, or nothing that can be believed."""
        if self.directory is None:
            return None
        path = self._path(prefix)
        try:
            data, proved = _read(path)
            return Remembered(decode(prefix, data), _age(path, proved))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s is not believed: %.200s", path, error)
            return None

    def keep(self, prefix: str, watch: PrefixWatch, paused: Callable[[], bool] = lambda: False) -> None:
        """Keep the contents of a watch, but not while it is `paused`."""
        if self.directory is not None:
            self._kept[prefix] = _Kept(watch, paused)

    async def leave(self, prefix: str) -> None:
        """Write the last of it, and keep it no more."""
        if (kept := self._kept.pop(prefix, None)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WRITE):
                    await self._look(prefix, kept, last=True)

    async def run(self) -> None:
        """Endless; ends by being cancelled."""
        while self.directory is not None:
            await asyncio.sleep(LOOK)
            for prefix, kept in tuple(self._kept.items()):
                await self._look(prefix, kept)

    async def _look(self, prefix: str, kept: _Kept, *, last: bool = False) -> None:
        """Write what has changed, or note that it has been proved again, if it is time."""
        watch, age, since = kept.watch, kept.watch.age(), time.monotonic() - kept.written
        if not watch.told or watch.recalled or watch.stale or age is None or kept.paused():
            return
        path, proved, told = self._path(prefix), time.time() - age, watch.told
        if told != kept.told and (last or since >= kept.pause):
            work: Callable[[], Any] = partial(_write, path, prefix, watch.snapshot(), proved)
        elif told == kept.told and (last or since >= PROVE):
            work = partial(os.utime, path, (proved, proved))
        else:
            return
        began = kept.written = time.monotonic()
        try:
            await in_thread(work, "memory")
        except (OSError, ValueError) as error:
            self._fail(error)
            kept.told = 0
        else:
            kept.told, self.error = told, None
            self._saying.say("", logging.INFO, "what is known is kept in %s again", self.directory)
        kept.pause = max(PAUSE, (time.monotonic() - began) / SHARE)

    def _prepare(self, directory: Path) -> None:
        """Have the directory, without files so old that nobody would believe them."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in directory.glob(f"*{SUFFIX}*"):
                if time.time() - path.lstat().st_mtime > OLDEST:
                    path.unlink()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.error = str(error)
        text = "what is known cannot be kept in %s, a restart without etcd would not know it: %s"
        self._saying.say("failed", logging.WARNING, text, self.directory, error)

    def _path(self, prefix: str) -> Path:
        digest = hashlib.sha256(prefix.encode()).hexdigest()[:16]
        return (self.directory or Path()) / f"{quote(prefix.strip('/'), safe='')[:64]}-{digest}{SUFFIX}"


def _age(path: Path, proved: float) -> float:
    """The seconds since a moment of the wall clock. Raises ValueError for too many."""
    age = time.time() - proved
    if age > OLDEST:
        raise ValueError(f"{age / 86400:.0f} days old")
    if age < 0:
        log.warning("%s: the clock was set back since it was written: it is older than it seems", path)
    return max(0.0, age)


def _read(path: Path) -> tuple[bytes, float]:
    """A file's contents and its time of change. Raises OSError, and ValueError for what others may have put there."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError("not a file that its owner alone can write")
        return file.read(LARGEST + 1), found.st_mtime


def _write(path: Path, prefix: str, snapshot: Snapshot, proved: float) -> None:
    """Replace a file in one step. Others may be at it: a write that was given up, a process that is to follow."""
    data = encode(prefix, snapshot)
    if len(data) > LARGEST:
        raise ValueError(f"{prefix} has {len(data)} bytes, more than {LARGEST}")
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.utime(new, (proved, proved))
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
