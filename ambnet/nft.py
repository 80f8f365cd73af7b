"""The `nft` program: the one way in which rules are written.

It gets an empty environment, and commands only as its input. Input and outputs are files in memory: no pipe to fill
or to serve, and the kernel itself bounds what a confused nft may write. A call costs about 3 ms of nft's processor time
and 0.7 ms of ours; a removal waits some 10 ms more for the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from typing import Any

from ambcore.errors import AmbassadorError

# Where distributions install it. PATH is not asked: what runs with our privilege is not for the environment to choose.
PLACES = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft")
PATIENCE = 10.0  # seconds; 1,000 endpoints take 20 ms
PATIENCE_BIG = 20.0  # for a text of more than BIG bytes
BIG = 1 << 20
LONGEST = 16 << 20  # bytes of a listing; 10,000 elements with counters make 3 MiB
LONGEST_REFUSAL = 64 << 10
QUOTED = 300  # characters of nft's words in an error

DECODER = json.JSONDecoder()
BLANK = re.compile(r"\s*")

Item = dict[str, Any]


class Trouble(StrEnum):
    """What went wrong with a call."""

    MISSING = "missing"  # no usable program
    REFUSED = "refused"  # nothing was changed
    TIMED_OUT = "timed out"  # killed; a transaction may have happened, as a whole
    CRASHED = "crashed"  # likewise
    ODD = "odd"  # it answered, but not as nft answers


class NftError(AmbassadorError):
    """A call failed; the text says why, in nft's own words where it had any."""

    def __init__(self, kind: Trouble, why: str) -> None:
        super().__init__(f"nft {kind.value}: {why}")
        self.kind = kind


class Nft:
    """Runs nft. Calls may overlap; the kernel takes one transaction after the other.

    Cancelling one kills its nft. The transaction then happened or not, as a whole.
    """

    def __init__(self, places: Sequence[str] = PLACES, patience: float | None = None) -> None:
        self._places = places
        self._patience = patience
        self._program: str | None = None

    async def apply(self, text: str) -> None:
        """Do all that the text says in one transaction, or nothing and raise NftError."""
        await self._run(text)

    async def check(self, text: str) -> None:
        """Whether the kernel would take the text; NftError says why not. Changes nothing."""
        await self._run(text, "--check")

    async def read(self, *commands: str) -> list[Item]:
        """What listing commands print, as nft's JSON items of one key each, without the version line.

        Raises NftError, also for an answer that is not of this form.
        """
        return items(await self._run("\n".join(commands) + "\n", "--json"))

    async def _run(self, text: str, *options: str) -> bytes:
        """What nft prints; raises NftError unless it ends well."""
        try:
            return await self._call(text, *options)
        except OSError as error:  # no file, no process, no memory
            raise NftError(Trouble.CRASHED, f"cannot be run: {error.strerror}") from error

    async def _call(self, text: str, *options: str) -> bytes:
        with ExitStack() as files:
            given, printed, complained = (files.enter_context(_Memory(name)) for name in ("in", "out", "err"))
            data = text.encode()
            given.fill(data)
            printed.limit(LONGEST)
            complained.limit(LONGEST_REFUSAL)
            process = self._start(options, given, printed, complained)
            patience = self._patience or (PATIENCE_BIG if len(data) > BIG else PATIENCE)
            try:
                async with asyncio.timeout(patience):
                    await _ended(process)
            except TimeoutError as error:
                raise NftError(Trouble.TIMED_OUT, f"killed after {patience:g} s") from error
            finally:
                _bury(process)
            said = printed.written()
            if len(said) >= LONGEST:
                raise NftError(Trouble.ODD, f"a listing of more than {LONGEST >> 20} MiB")
            if process.returncode < 0:
                raise NftError(Trouble.CRASHED, _signal(-process.returncode))
            if process.returncode:
                raise NftError(Trouble.REFUSED, first_line(complained.written()) or f"exit code {process.returncode}")
            return said

    def _start(self, options: Sequence[str], *streams: _Memory) -> subprocess.Popen[bytes]:
        given, printed, complained = (stream.fd for stream in streams)
        command = [self._program or self._find(), *options, "--file", "-"]
        try:
            # Popen blocks for the millisecond of a vfork; asyncio's own would add a thread a process on 3.11.
            return subprocess.Popen(  # noqa: S603 - a fixed program and fixed options
                command, stdin=given, stdout=printed, stderr=complained, env={}, cwd="/"
            )
        except FileNotFoundError as error:
            self._program = None
            raise NftError(Trouble.MISSING, f"{command[0]} is gone") from error

    def _find(self) -> str:
        """The first place with a program that only root can have put there."""
        for place in self._places:
            with contextlib.suppress(OSError):
                found = os.stat(place)  # noqa: PTH116 - of the file that a link leads to
                only_root_writes = found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
                if stat.S_ISREG(found.st_mode) and only_root_writes and os.access(place, os.X_OK):
                    self._program = place
                    return place
        raise NftError(Trouble.MISSING, f"no program of root's at {', '.join(self._places)}; install nftables")


class _Memory:
    """A file in memory that another process reads or writes."""

    def __init__(self, name: str) -> None:
        self.fd = os.memfd_create(f"nft-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self.fd)

    def fill(self, data: bytes) -> None:
        """Hold this, to be read from the start."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.fd, rest) :]
        os.lseek(self.fd, 0, os.SEEK_SET)

    def limit(self, size: int) -> None:
        """Let nobody write beyond `size` bytes. What is not written takes no memory."""
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)

    def written(self) -> bytes:
        """What was written: the position is shared with whoever wrote."""
        return os.pread(self.fd, os.lseek(self.fd, 0, os.SEEK_CUR), 0)


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Return once the process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    try:
        loop.add_reader(handle, ended.set)
        await ended.wait()
        process.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _bury(process: subprocess.Popen[bytes]) -> None:
    """End a process that has not ended. A thread waits for it: one that hangs in the kernel may take its time."""
    if process.returncode is None:
        process.kill()
        with contextlib.suppress(RuntimeError):  # without a thread it is waited for when the next process is started
            threading.Thread(target=process.wait, name="nft", daemon=True).start()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def first_line(said: bytes) -> str:
    """The first line of what nft complained about, without what could confuse a terminal or fill a log."""
    line = said.decode(errors="replace").strip().partition("\n")[0]
    return "".join(each if each.isprintable() else " " for each in line)[:QUOTED]


def items(said: bytes) -> list[Item]:
    """The items of an answer, which is one JSON document for each command; raises NftError if it is not.

    10,000 elements take about 50 ms.
    """
    found: list[Item] = []
    try:
        text, position = said.decode().strip(), 0
        while not position or position < len(text):  # no document at all is not an empty one
            document, end = DECODER.raw_decode(text, position)
            found += _of_document(document)
            position = BLANK.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
    except (ValueError, RecursionError) as error:
        raise NftError(Trouble.ODD, f"not nft's JSON: {error}") from error
    return found


def _of_document(document: object) -> list[Item]:
    listed = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no list of items")  # noqa: TRY004 - of an answer, not of an argument
    for item in listed:
        if not isinstance(item, dict) or len(item) != 1:
            raise ValueError("an item without its one key")
    return [item for item in listed if "metainfo" not in item]
