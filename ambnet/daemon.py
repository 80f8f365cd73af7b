"""The life of a long-running asyncio program: signals, readiness, the watchdog, an end within a deadline.

A program hands `run` one coroutine function, its life story. It gets a `Life`, awaits what it serves and returns when
`life.stopping` is set and its own clean-up is done. Nothing here knows what the program does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from ambnet.notify import notify, watchdog_interval

log = logging.getLogger("daemon")

HARD_EXIT = 5.0  # seconds past the program's own deadline; gRPC's shutdown has hung in the field (grpc #40989)
CANCEL_AGAIN = 1.0  # seconds
LAG_PERIOD = 1.0  # seconds between two measurements of the loop's lateness
LAG_KEPT = 15  # measurements the metric remembers: what scrapes, looks as seldom

T = TypeVar("T")


def _settle() -> None:
    """Leave what is there by now, modules above all, out of the search for garbage.

    So a search costs what came since, and is made as soon as that has grown by a quarter, rather than by a quarter of
    everything: megabytes of garbage would gather for hours.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # the quarter is of what this one leaves


class Life:
    """What a program is told about its own life, and what it tells the service manager."""

    def __init__(self, deadline: float = math.inf) -> None:
        """`deadline` are the seconds that the program takes for its end; HARD_EXIT later it is ended."""
        self.stopping = asyncio.Event()
        self._deadline = deadline
        self.started = time.monotonic()
        self.lags: deque[float] = deque(maxlen=LAG_KEPT)

    @property
    def loop_lag(self) -> float:
        """The most that the event loop was late of late, in seconds; a metric."""
        return max(self.lags, default=0.0)

    def ready(self, status: str) -> None:
        """Say once that the program serves."""
        _settle()
        notify("READY=1", f"STATUS={status}")

    def stop(self, why: str) -> None:
        """Ask the program to end; asking again changes nothing."""
        if not self.stopping.is_set():
            log.info("stopping: %s", why)
            notify("STOPPING=1")
            self.stopping.set()
            if self._deadline < math.inf:
                asyncio.get_running_loop().call_later(self._deadline + HARD_EXIT, _leave)

    async def unless_stopping(self, wait: Awaitable[T]) -> T | None:
        """The result of `wait`, or None as soon as the program stops (then `wait` is cancelled)."""
        task = asyncio.ensure_future(wait)
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            await cancel(task, stop)


class Story(Protocol):
    """A program: runs until `life.stopping`, then cleans up and returns its exit code."""

    async def __call__(self, life: Life) -> int:
        """The whole life."""


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is theirs and was seen before.

    One that goes on is cancelled again after a second: a library may have taken the first time for its own.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen


@contextlib.asynccontextmanager
async def background(*jobs: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run endless jobs beside the body. One that fails ends the body with its error; all are cancelled at the end.

    A single failure, the body's or a job's, is raised as itself; several at once as an exception group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run_job(job)) for job in jobs]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as failures:
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from None
        raise


async def _run_job(job: Callable[[], Awaitable[None]]) -> None:
    await job()


def run(story: Story, *, deadline: float) -> int:
    """Run a program to its end and return its exit code.

    SIGTERM and SIGINT set `life.stopping`; a second signal, or `deadline` + 5 s, ends the process at once with code 1:
    whoever waits for us gets an answer.
    """
    return asyncio.run(_live(story, deadline))


async def _live(story: Story, deadline: float) -> int:
    life = Life(deadline)
    loop = asyncio.get_running_loop()
    signals = itertools.count()

    def on_signal(number: signal.Signals) -> None:
        if next(signals):  # a program that stops of its own accord may be told to as well, once
            log.warning("second %s: leaving at once", number.name)
            _leave()
        life.stop(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with background(lambda: _watchdog(life)):
        return await story(life)


def _leave() -> None:
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)


async def _watchdog(life: Life) -> None:
    """Measure the loop's lateness and, when systemd watches, say that the loop still turns."""
    period = min(LAG_PERIOD, watchdog_interval() or LAG_PERIOD)
    watched = watchdog_interval() is not None
    while True:
        before = time.monotonic()
        await asyncio.sleep(period)
        life.lags.append(max(0.0, time.monotonic() - before - period))
        if watched:
            notify("WATCHDOG=1")
