"""Open pages kept up to date: one look at everything for all of them, to each page what changed since its last message.

A page that reads slowly skips what is in between: it is sent the difference to what it was sent before. Nothing is
looked at while no page is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from ambcore.findings import Finding, Level
from ambcore.text import visible
from ambnet.daemon import cancel
from ambnet.page.board import Board
from ambnet.page.essence import essence
from ambnet.page.flows import flows
from ambnet.page.fragments import Snapshot, changes
from ambnet.page.gather import fleet
from ambnet.page.history import History, Rates
from ambnet.page.model import Fleet, Service, Sight
from ambnet.page.render import Figures, Renderer
from ambnet.threads import in_thread

log = logging.getLogger("page")

PERIOD = 0.5  # seconds between two looks
SHARE = 0.1  # of one processor core, at most: where there is much to render looks are rarer
FRESH = 0.2  # seconds: a page that is loaded meanwhile gets what was looked at then
BEAT = 15.0  # seconds of silence before a sign of life
FIRST_WORD = 1.5  # seconds that a page waits for why its service is as it is; else that comes later
MOST_LISTENERS = 32
MOST_CHANNELS = 8  # pages that nobody listens to yet: they were loaded and are about to
LARGE = 300  # instances; rendering more of them is done in a thread, so that the loop goes on turning


@dataclass(slots=True, eq=False)
class Channel:
    """One page: of all services, or of the one that `name` names. `news` is replaced with each new version."""

    name: str
    snapshot: Snapshot = field(default_factory=Snapshot)
    version: int = 0
    looked: float = float("-inf")
    shows: object = None  # the essence of what was rendered last, and the history's length then
    moving: bool = False  # whether the rates rendered last were of something
    listeners: int = 0
    findings: Sequence[Finding] = ()
    asking: asyncio.Task[None] | None = None
    asked: float = float("-inf")
    news: asyncio.Event = field(default_factory=asyncio.Event)
    message: tuple[int, int, bytes] = (0, 0, b"")  # the last one made: from which version to which


class Live:
    """The pages of a board. Close it in the end."""

    def __init__(self, board: Board, renderer: Renderer, history: History) -> None:
        self._board = board
        self._renderer = renderer
        self._history = history
        self._rates = Rates()
        self._shown: object = None
        self._life = secrets.token_hex(4)
        self._channels: dict[str, Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._closed = asyncio.Event()
        self.listeners = 0

    @property
    def full(self) -> bool:
        """Whether no further page is kept up to date."""
        return self.listeners >= MOST_LISTENERS

    async def current(self, name: str) -> tuple[Snapshot, str]:
        """A page as of now, and its version. Raises RuntimeError if it could never be made."""
        channel = self._channel(name)
        if time.monotonic() - channel.looked > FRESH and not await self._look([channel]) and not channel.version:
            raise RuntimeError("the page could not be made: the log says why")
        return channel.snapshot, self._version(channel)

    async def messages(self, name: str, version: str) -> AsyncGenerator[bytes, None]:
        """Endless until closed: for a page of this version what makes it current, as server-sent events."""
        channel = self._channel(name)
        channel.listeners += 1
        self.listeners += 1
        try:
            yield b"retry: 1000\n\n" + _beat()
            sent = channel if version == self._version(channel) else Channel(name)
            known, number = sent.snapshot, sent.version
            self._start()
            while not self._closed.is_set():
                if channel.version != number:
                    message = self._message(channel, known, number)
                    known, number = channel.snapshot, channel.version
                    yield message
                    continue
                news = channel.news
                try:
                    async with asyncio.timeout(BEAT):
                        await news.wait()
                except TimeoutError:
                    yield _beat()
        finally:
            channel.listeners -= 1
            self.listeners -= 1

    async def aclose(self) -> None:
        """Let every page go. Closing twice is fine."""
        self._closed.set()
        for channel in self._channels.values():
            channel.news.set()
        asking = [channel.asking for channel in self._channels.values() if channel.asking is not None]
        await cancel(*([self._task] if self._task is not None else []), *asking)

    def _version(self, channel: Channel) -> str:
        return f"{self._life}.{channel.version}"

    def _channel(self, name: str) -> Channel:
        """The channel of a page; of those that nobody listens to the oldest are forgotten."""
        channel = self._channels.pop(name, None) or Channel(name)
        self._channels[name] = channel
        idle = [key for key, each in self._channels.items() if not each.listeners and each is not channel]
        for key in idle[: max(0, len(idle) - MOST_CHANNELS)]:
            del self._channels[key]
        return channel

    def _message(self, channel: Channel, known: Snapshot, number: int) -> bytes:
        """From a version to the current one; made once for all pages that were as far."""
        key = (number, channel.version)
        if channel.message[:2] != key or not number:
            body = self._renderer.live(changes(known, channel.snapshot) or {"set": {}, "lists": {}})
            text = json.dumps({**body, "now": round(time.time(), 3)}, separators=(",", ":"))
            channel.message = (*key, f"id: {self._version(channel)}\nevent: patch\ndata: {text}\n\n".encode())
        return channel.message[2]

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="live page")

    async def _run(self) -> None:
        """Look again and again while somebody listens."""
        while self.listeners and not self._closed.is_set():
            began = time.process_time()
            await self._look([channel for channel in self._channels.values() if channel.listeners])
            took = time.process_time() - began
            await self._pause(max(PERIOD, took / SHARE))

    async def _pause(self, seconds: float) -> None:
        """At most so long; shorter when the board has news, but never less than half a period."""
        await asyncio.sleep(seconds / 2)
        if (changed := self._board.changed) is None:
            await asyncio.sleep(seconds / 2)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds / 2):
                await changed.wait()
        changed.clear()

    async def _look(self, channels: Sequence[Channel]) -> bool:
        """Look once, and make the new versions of these pages that are not what they were; False if that failed."""
        async with self._one_at_a_time:
            try:
                for channel in channels:
                    await self._ask(channel)
                await self._render(self._board.look(), channels)
            except Exception:
                # What a program says of itself must not end the looking: the next look may go well.
                log.exception("the page could not be made")
                return False
        return True

    async def _render(self, sight: Sight, channels: Sequence[Channel]) -> None:
        """Make what these pages show of a moment, unless it is what they show already."""
        now = time.monotonic()
        shown = (essence(sight), self._history.taken)
        fresh = shown != self._shown
        self._shown = shown
        moving = fresh or self._rates.still(now)
        for channel in channels:
            channel.looked = now
        stale = [each for each in channels if moving or each.moving or each.shows != (shown, each.findings)]
        if not stale:
            return
        found = fleet(sight)
        figures = Figures(flows(self._rates, now, found), self._history.series)
        large = sum(len(service.seats) for service in found.services) > LARGE
        for channel in stale:
            channel.shows, channel.moving = (shown, channel.findings), self._rates.moving
            make = _maker(self._renderer, channel, found, figures)
            snapshot = await in_thread(make, "page") if large else make()
            if changes(channel.snapshot, snapshot):
                channel.snapshot, channel.version = snapshot, channel.version + 1
                channel.news.set()
                channel.news = asyncio.Event()

    async def _ask(self, channel: Channel) -> None:
        """Ask why a service is as it is, beside everything else; the first time its page waits a little for it."""
        now = time.monotonic()
        if not channel.name or (channel.asking and not channel.asking.done()) or now < channel.asked:
            return
        channel.asking = asyncio.create_task(self._explain(channel), name="explain")
        if not channel.version:
            await asyncio.wait({channel.asking}, timeout=FIRST_WORD)

    async def _explain(self, channel: Channel) -> None:
        try:
            channel.findings = tuple(await self._board.explain(channel.name))
        except Exception as error:
            log.exception("%s cannot be explained", visible(channel.name))
            channel.findings = (Finding(Level.UNKNOWN, "explain", f"failed: {error}"),)
        channel.asked = time.monotonic() + self._board.explain_every


def _maker(renderer: Renderer, channel: Channel, found: Fleet, figures: Figures) -> Callable[[], Snapshot]:
    """The work of rendering one page, to be done here or in a thread."""
    if not channel.name:
        return lambda: renderer.fleet(found, figures)
    service = found.service(channel.name) or Service(channel.name)
    return lambda: renderer.service(service, found, figures, channel.findings)


def _beat() -> bytes:
    return f'event: beat\ndata: {{"now":{time.time():.3f}}}\n\n'.encode()
