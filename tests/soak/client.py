"""The load: many clients of several proxies in one process, which check every byte and count what went wrong.

`python -m tests.soak.client PLAN`, PLAN a JSON object as `Plan` has it. Until its input ends it writes a line of JSON
for each failure and each exchange that took more than a second, and its counts every few seconds; then it lets what is
open finish, and counts once more. Moments are on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.soak.instance import GREETING
from tests.soak.judging import Failure

PATIENCE = 20.0  # seconds a client waits for an answer, as an impatient person would; parking is shorter
AGAIN = 1.0  # seconds after which a datagram is sent again
SLOW = 1.0  # seconds; exchanges that take longer are told one by one
COUNT_EVERY = 2.0  # seconds
BLOCK = random.Random(1).randbytes(2 << 20)
HEAD = 8  # bytes of an exchange's number in front of its payload
BULK = 1 << 20  # bytes


@dataclass(frozen=True)
class Plan:
    """Where to, and how much of what for each proxy.

    `proxies` are addresses by name; `tcp`, `udp` ports. `short`, `bulk` are connections begun a second, `long` and
    `flows` those kept open, each of which asks every `pause` seconds.
    """

    proxies: dict[str, str]
    tcp: int
    udp: int
    short: float = 30.0
    bulk: float = 0.3
    long: int = 8
    flows: int = 8
    pause: float = 0.5


@dataclass
class Exchange:
    """One connection's or datagram's progress: what its failure will tell."""

    load: str
    proxy: str
    instance: str | None = None
    step: str = "connect"
    begun: float = field(default_factory=time.monotonic)

    def failure(self, kind: str, detail: str) -> Failure:
        """It went wrong, now."""
        return Failure(
            self.load, self.proxy, kind, self.instance, self.begun, time.monotonic(), f"{self.step}: {detail}"
        )


class CorruptError(Exception):
    """Other bytes came back than were sent."""


def kind_of(error: Exception) -> str:
    """What a failure is called."""
    names: tuple[tuple[type[Exception], str], ...] = (
        (ConnectionRefusedError, "refused"),
        (ConnectionError, "reset"),
        (EOFError, "short"),
        (TimeoutError, "silent"),
        (CorruptError, "corrupt"),
    )
    return next((name for kind, name in names if isinstance(error, kind)), "error")


def payload(number: int, size: int) -> bytes:
    """What is sent: its number, and bytes that differ from those of its neighbours."""
    start = number * 7919 % (len(BLOCK) - size)
    return number.to_bytes(HEAD, "big") + BLOCK[start : start + size]


class Clients:
    """All of them. `say` is told of failures, slow exchanges and counts."""

    def __init__(self, plan: Plan, say: Callable[[str, Any], None]) -> None:
        self._plan = plan
        self._say = say
        self._numbers = itertools.count(1)
        self._over = asyncio.Event()
        self._lot = random.Random(2)
        self.counts: Counter[str] = Counter()

    def stop(self) -> None:
        """Begin nothing new."""
        self._over.set()

    async def run(self) -> None:
        """Until stopped, and what was begun has ended."""
        async with asyncio.TaskGroup() as group:
            for proxy, address in self._plan.proxies.items():
                to = (address, self._plan.tcp)
                group.create_task(self._begin_at(self._plan.short, partial(self._short, to, proxy)))
                group.create_task(self._begin_at(self._plan.bulk, partial(self._bulk, to, proxy)))
                for _ in range(self._plan.long):
                    group.create_task(self._again_and_again(partial(self._long, to, proxy)))
                for _ in range(self._plan.flows):
                    flow = partial(self._flow, (address, self._plan.udp), proxy)
                    group.create_task(self._again_and_again(flow))

    async def count(self) -> None:
        """Endless: the counts so far."""
        while True:
            await asyncio.sleep(COUNT_EVERY)
            self._say("counts", dict(self.counts))

    async def _begin_at(self, rate: float, one: Callable[[], Awaitable[None]]) -> None:
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                await self._rest(started + number / rate - time.monotonic())
                if self._over.is_set():
                    return
                group.create_task(_run(one))

    async def _again_and_again(self, one: Callable[[], Awaitable[None]]) -> None:
        await self._rest(self._lot.uniform(0, 2))
        while not self._over.is_set():
            await one()
            await self._rest(0.05)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._over.wait()

    @contextlib.asynccontextmanager
    async def _judged(self, exchange: Exchange) -> AsyncIterator[None]:
        """What the block raises is a failure, and told; the count of its load grows when it goes well."""
        try:
            yield
        except (OSError, EOFError, CorruptError) as error:
            self.counts[f"{exchange.proxy} {exchange.load} failed"] += 1
            self._say("failure", exchange.failure(kind_of(error), str(error)).told())
        else:
            self.counts[f"{exchange.proxy} {exchange.load} ok"] += 1

    def _took(self, exchange: Exchange, since: float) -> None:
        took = time.monotonic() - since
        if took > SLOW:
            self._say("slow", {"load": exchange.load, "proxy": exchange.proxy, "begun": since, "took": took})

    @contextlib.asynccontextmanager
    async def _connected(
        self, to: tuple[str, int], exchange: Exchange
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection that was greeted."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*to)
        try:
            exchange.step = "greeting"
            async with asyncio.timeout(PATIENCE):
                exchange.instance = (await reader.readexactly(GREETING)).decode().strip()
            self._took(exchange, exchange.begun)
            exchange.step = "answer"
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _whole(self, to: tuple[str, int], exchange: Exchange, size: int) -> None:
        """One payload there and back over a connection of its own, half-closed in between."""
        async with self._judged(exchange), self._connected(to, exchange) as (reader, writer):
            sent = payload(next(self._numbers), size)

            async def send() -> None:
                writer.write(sent)
                await writer.drain()
                writer.write_eof()

            async with asyncio.timeout(PATIENCE):
                sending = asyncio.ensure_future(send())
                try:
                    came = await reader.read(-1)
                    await sending
                finally:
                    sending.cancel()
                    await asyncio.wait({sending})
            _compare(came, sent)

    async def _short(self, to: tuple[str, int], proxy: str) -> None:
        await self._whole(to, Exchange("short", proxy), self._lot.randrange(1, 4000))

    async def _bulk(self, to: tuple[str, int], proxy: str) -> None:
        await self._whole(to, Exchange("bulk", proxy), BULK)

    async def _long(self, to: tuple[str, int], proxy: str) -> None:
        """Requests and answers over one connection, for 10 to 120 s."""
        exchange = Exchange("long", proxy)
        until = time.monotonic() + self._lot.uniform(10, 120)
        async with self._judged(exchange), self._connected(to, exchange) as (reader, writer):
            while time.monotonic() < until and not self._over.is_set():
                sent = payload(next(self._numbers), self._lot.randrange(1, 2000))
                asked = time.monotonic()
                async with asyncio.timeout(PATIENCE):
                    writer.write(sent)
                    _compare(await reader.readexactly(len(sent)), sent)
                self._took(exchange, asked)
                self.counts[f"{proxy} long answers"] += 1
                await self._rest(self._plan.pause)

    async def _flow(self, to: tuple[str, int], proxy: str) -> None:
        """Questions and answers from one UDP port, for 10 to 120 s; a question is asked again every second."""
        loop = asyncio.get_running_loop()
        until = time.monotonic() + self._lot.uniform(10, 120)
        answers = Answers()
        transport, _ = await loop.create_datagram_endpoint(lambda: answers, remote_addr=to)
        instance = None
        try:
            while time.monotonic() < until and not self._over.is_set():
                exchange = Exchange("udp", proxy, instance)
                async with self._judged(exchange):
                    await self._ask(exchange, transport, answers)
                    self._took(exchange, exchange.begun)
                instance = exchange.instance
                await self._rest(self._plan.pause)
        finally:
            transport.abort()

    async def _ask(self, exchange: Exchange, transport: asyncio.DatagramTransport, answers: Answers) -> None:
        sent = payload(next(self._numbers), self._lot.randrange(0, 1200))
        async with asyncio.timeout(PATIENCE):
            for attempt in itertools.count():
                if attempt:
                    self.counts[f"{exchange.proxy} udp asked again"] += 1
                transport.sendto(sent)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):
                        came = await answers.of(sent[:HEAD])
                        break
        exchange.instance = came[:GREETING].decode().strip()
        _compare(came[GREETING:], sent)


class Answers(asyncio.DatagramProtocol):
    """What comes to one UDP port; late answers to an earlier question are passed over."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep it."""
        self._came.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """An instance is gone, says ICMP: the question is asked again in a second anyway."""

    async def of(self, number: bytes) -> bytes:
        """The answer to the question of this number."""
        while (came := await self._came.get())[GREETING : GREETING + HEAD] != number:
            pass
        return came


def _compare(came: bytes, sent: bytes) -> None:
    if came == sent:
        return
    if sent.startswith(came):
        raise EOFError(f"{len(came)} of {len(sent)} bytes")
    first = next((at for at, (ours, theirs) in enumerate(zip(sent, came, strict=False)) if ours != theirs), len(sent))
    raise CorruptError(f"{len(came)} bytes for {len(sent)}, other ones from byte {first} on")


async def _run(one: Callable[[], Awaitable[None]]) -> None:
    await one()


def _say(what: str, value: Any) -> None:
    sys.stdout.write(json.dumps({what: value}) + "\n")
    sys.stdout.flush()


async def main(plan: Plan) -> None:
    """Run until the input ends."""
    clients = Clients(plan, _say)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), clients.stop)
    counting = asyncio.create_task(clients.count())
    try:
        await clients.run()
    finally:
        counting.cancel()
    _say("counts", dict(clients.counts))


if __name__ == "__main__":
    asyncio.run(main(Plan(**json.loads(sys.argv[1]))))
