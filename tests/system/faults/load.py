"""Clients in a thread of their own, so that a test may wait for other things: short connections and long ones."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Collection
from typing import Self

from bench.load import Failure, Outcome, Target, ask, steady_load
from tests.support.waiting import eventually

SAY = 0.25  # seconds between two words on a long connection
ANSWER = 12.0  # seconds that an answer may take on a long connection


class Load:
    """A context manager: `rate` new connections a second, and `held` that stay open and are talked on.

    A failure is a connection that is not accepted, reset, cut short, or answered by somebody else than `names`; a long
    one's also an answer of another than at first.
    """

    def __init__(self, target: Target, names: Collection[str], rate: float = 50, held: int = 8) -> None:
        self._target, self._names, self._rate, self._held = target, frozenset(names), rate, held
        self._outcome = Outcome()
        self._words = 0
        self._wrong: list[Failure] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self._outcome.total > 0 and self._words >= self._held, 20, "the first answers")
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End, with what is under way; the outcome is complete then. Stopping twice is fine."""
        stop, self._stop = self._stop, None
        if stop is not None:
            self._loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    @property
    def failures(self) -> list[Failure]:
        """What went wrong, as complete as `stop` has made it."""
        strange = [name for name in self._outcome.answers if name not in self._names]
        return [*self._outcome.failures, *self._wrong, *(Failure(0.0, f"answered {name!r}") for name in strange)]

    @property
    def total(self) -> int:
        """Short connections begun and ended."""
        return self._outcome.total

    @property
    def figure(self) -> str:
        """One line for the books."""
        slowest = max(self._outcome.seconds, default=0.0)
        return (
            f"{len(self.failures)} errors in {self.total} connections, the slowest {slowest * 1000:.0f} ms, and "
            f"{self._words} exchanges on {self._held} long ones"
        )

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop = asyncio.Event()
        async with steady_load(self._target, self._rate) as self._outcome, asyncio.TaskGroup() as group:
            for _ in range(self._held):
                group.create_task(self._talk(stop))
            await stop.wait()

    async def _talk(self, stop: asyncio.Event) -> None:
        """One long connection, until the end or its failure."""
        started = time.monotonic()
        try:
            reader, writer = await self._target.connect()
            with contextlib.closing(writer):
                first = None
                while not stop.is_set():
                    writer.write(self._target.line)
                    answer = (await asyncio.wait_for(reader.readline(), ANSWER)).decode(errors="replace").strip()
                    first = first or answer
                    if answer not in self._names or answer != first:
                        raise EOFError(f"{answer!r} after {first!r}")  # noqa: TRY301 - likewise a failure
                    self._words += 1
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), SAY)
        except (OSError, EOFError, TimeoutError) as error:
            self._wrong.append(Failure(started, f"long connection: {type(error).__name__}: {error}"))


def served(target: Target) -> str:
    """One answer, for tests without a loop. Raises OSError, EOFError."""
    return asyncio.run(ask(target))
