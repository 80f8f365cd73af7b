"""Whom a dynproxy takes over from, and who takes over from it: `ambnet.handover` in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ambcore.errors import ConfigError
from ambnet.daemon import Life, cancel
from ambnet.handover.heir import Arrival, arrive, check_turn, claim, say_ready
from ambnet.handover.holder import Holder
from ambnet.handover.words import OPTION, PACKET
from ambnet.relay.inherited import inherited
from ambnet.threads import in_thread
from dynproxy.plane import DataPlane

log = logging.getLogger("hand-over")


class Succession:
    """Use `succession`. Without `--hand-over` there is nobody before us, and nobody after."""

    def __init__(self, arrival: Arrival | None) -> None:
        self._arrival = arrival
        self._handed = len(inherited())
        self._holder: Holder | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ours = not self.waiting
        self.over = False

    @property
    def waiting(self) -> bool:
        """Whether somebody before us serves still."""
        return self._arrival is not None and self._arrival.holder is not None

    async def our_turn(self, prepared: asyncio.Future[None]) -> None:
        """Until we are `prepared` and the one before us has stopped writing; or until that one has gone, prepared or
        not. Raises what came of the preparation, and ConfigError if that one serves on.
        """
        if self._arrival is None or (holder := self._arrival.holder) is None:
            return
        word = asyncio.ensure_future(_heard(holder))
        try:
            either: set[asyncio.Future[Any]] = {prepared, word}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not word.done():
                prepared.result()
                say_ready(holder)
            check_turn(await word)
            claim(holder)
        finally:
            await cancel(word)
            holder.close()
        self._ours = True

    def check(self) -> None:
        """Raises ConfigError if we have no use for anything that we were given: then it is another one's place."""
        if not self._ours and self._handed and len(inherited()) == self._handed:
            raise ConfigError(OPTION, "whoever serves there listens on none of our ports: it has another work than we")

    def serve(self, sockets: Callable[[], Sequence[socket.socket]], plane: DataPlane, life: Life) -> None:
        """Hand over to whoever comes, from now on. `life` is stopped when that one serves; then we are `over`."""
        if self._arrival is None:
            return

        def pause(then: Callable[[], None]) -> None:
            self._soon(plane.give_charge(), then)

        def resume() -> None:
            if not self.over:  # else another process writes by now
                self._soon(plane.take_charge())

        def over() -> None:
            self.over = True
            life.stop("another process has taken over")

        loop = asyncio.get_running_loop()
        self._holder = Holder(loop, self._arrival.listener, sockets, pause, resume, over)

    async def leave(self, plane: DataPlane) -> None:
        """Let an heir take over at once, as we end; and let nobody else come."""
        if self._holder is not None:
            if self._holder.has_heir and not self.over:
                await plane.give_charge()
                self.over = self._holder.yield_now()
                if not self.over:  # it has gone meanwhile: what we leave is ours to clear away
                    await plane.take_charge()
            self._holder.close()

    async def aclose(self) -> None:
        """End all of it. Closing twice is fine."""
        if self._holder is not None:
            self._holder.close()
        await cancel(*self._tasks)
        if self._arrival is not None:
            self._arrival.close()

    def _soon(self, work: Awaitable[None], then: Callable[[], None] = lambda: None) -> None:
        async def do() -> None:
            await work
            then()

        task = asyncio.create_task(do())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _heard(holder: socket.socket) -> bytes:
    """The next word; empty when the one before us has gone."""
    holder.setblocking(False)
    try:
        return await asyncio.get_running_loop().sock_recv(holder, PACKET)
    except ConnectionError:
        return b""


@contextlib.asynccontextmanager
async def succession(path: str | None) -> AsyncIterator[Succession]:
    """Meet whoever serves at a path. Raises ConfigError; see `arrive`."""
    try:
        arrival = None if path is None else await in_thread(partial(arrive, path), "hand-over")
    except OSError as error:
        raise ConfigError(OPTION, error.strerror or str(error)) from error
    if arrival is not None and arrival.holder is not None:
        inherited().add(arrival.sockets)
        log.info("taking over %d sockets; the process that has them serves until we are ready", len(arrival.sockets))
    made = Succession(arrival)
    try:
        yield made
    finally:
        await made.aclose()
