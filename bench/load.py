"""Clients that know nothing: connect, say a line, read a line. They count what went wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

ANSWER_WITHIN = 12.0  # seconds; longer than parking, so that a closed connection is told from a slow one


@dataclass(frozen=True)
class Failure:
    """A connection that was not served; `started` is when it was begun, on the monotonic clock."""

    started: float
    why: str


@dataclass
class Outcome:
    """What the clients of a load saw: answers by text, failures, seconds each connection took."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Connections begun and ended."""
        return self.answers.total() + len(self.failures)

    def failures_since(self, moment: float) -> list[Failure]:
        """Failures of connections begun after `moment`."""
        return [failure for failure in self.failures if failure.started > moment]


@dataclass(frozen=True)
class Target:
    """Whom a load asks, and what: one line, answered by one line.

    `socket` makes the client's socket, where that shall be in another network than this process is.
    """

    port: int
    host: str = "127.0.0.1"
    line: bytes = b"who\n"
    socket: Callable[[], socket.socket] | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; raises OSError."""
        if self.socket is None:
            return await asyncio.open_connection(self.host, self.port)
        made = self.socket()
        try:
            made.setblocking(False)
            await asyncio.get_running_loop().sock_connect(made, (self.host, self.port))
        except BaseException:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)


async def ask(target: Target) -> str:
    """The answer to one line over a connection of its own; raises OSError or EOFError."""
    reader, writer = await target.connect()
    try:
        writer.write(target.line)
        answer = await reader.readline()
        if not answer.endswith(b"\n"):
            raise EOFError(f"closed after {answer!r}")
        return answer.decode().strip()
    finally:
        writer.close()


async def _one(target: Target, outcome: Outcome) -> None:
    started = time.monotonic()
    try:
        outcome.answers[await asyncio.wait_for(ask(target), ANSWER_WITHIN)] += 1
    except (OSError, EOFError, TimeoutError) as error:
        outcome.failures.append(Failure(started, f"{type(error).__name__}: {error}"))
    outcome.seconds.append(time.monotonic() - started)


@asynccontextmanager
async def steady_load(target: Target, rate: float) -> AsyncIterator[Outcome]:
    """New connections at `rate` a second while the body runs; the outcome is complete after it."""
    outcome = Outcome()
    stop = asyncio.Event()

    async def generate() -> None:
        async with asyncio.TaskGroup() as group:
            started = time.monotonic()
            for number in range(1_000_000):
                delay = started + number / rate - time.monotonic()
                if delay > 0:
                    await asyncio.wait({waiting}, timeout=delay)
                if stop.is_set():
                    return
                group.create_task(_one(target, outcome))

    waiting = asyncio.ensure_future(stop.wait())
    task = asyncio.create_task(generate())
    try:
        yield outcome
    finally:
        stop.set()
        await task
        await waiting


async def burst(target: Target, count: int, at_once: int = 50) -> Outcome:
    """`count` connections, at most `at_once` at a time."""
    outcome = Outcome()
    room = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with room:
            await _one(target, outcome)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    return outcome
