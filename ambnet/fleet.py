"""Who takes part in the fleet, and what operators drained, as etcd knows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from ambcore.drains import Drains, fold
from ambcore.errors import RecordError
from ambcore.fleet import DEFAULT_FLEET, DRAINS, PROGRAMS, Announcement, decode_program
from ambcore.remembered import Remembered
from ambcore.text import visible
from ambnet.daemon import cancel
from ambnet.etcd import Etcd
from ambnet.saying import Saying
from ambnet.watch import RELIST, PrefixWatch

log = logging.getLogger("fleet")


async def programs(etcd: Etcd, fleet: str = DEFAULT_FLEET) -> tuple[Announcement, ...]:
    """Every program that is announced now, sorted; what cannot be read is said in the log. Raises RegistryError."""
    found = []
    for item in (await etcd.list(f"{fleet}{PROGRAMS}".encode())).items:
        try:
            found.append(decode_program(item.key, item.value, fleet))
        except RecordError as error:
            log.warning("%s is no announcement: %s", visible(item.key.decode(errors="replace")), visible(str(error)))
    return tuple(sorted(found, key=lambda program: (program.kind, program.host, program.id)))


async def drains(etcd: Etcd, fleet: str = DEFAULT_FLEET) -> Drains:
    """Every marker that stands now. Raises RegistryError."""
    return fold(Drains(), await etcd.list(f"{fleet}{DRAINS}".encode()), fleet)


class DrainWatch:
    """Operators' markers, kept up to date; an async context manager.

    `drains` are those that are known; none while nothing is known, or when we may not know: `known` tells. For status:
    `denied`, `last_error`, `age()`. `watch` follows `prefix`; `recall` gives what an earlier life knew of that.
    """

    def __init__(
        self,
        etcd: Etcd,
        fleet: str = DEFAULT_FLEET,
        *,
        relist: float = RELIST,
        recall: Callable[[str], Remembered | None] = lambda _: None,
    ) -> None:
        self.drains = Drains()
        self.known = False
        self.prefix = f"{fleet}{DRAINS}"
        self.watch = PrefixWatch(
            etcd, self.prefix, relist=relist, on_denied=self._say_denied, remembered=recall(self.prefix)
        )
        self._fleet = fleet
        self._changed = asyncio.Event()  # another one after each change
        self._saying = Saying(log)
        self._task: asyncio.Task[None] | None = None

    @property
    def denied(self) -> bool:
        """Whether we may not know them: nobody is drained, then, that was not before."""
        return self.watch.denied

    @property
    def last_error(self) -> str | None:
        """Why what is known may not be current."""
        return self.watch.last_error

    def age(self) -> float | None:
        """Seconds since etcd last proved that they are current; None before the first time."""
        return self.watch.age()

    async def __aenter__(self) -> Self:
        await self.watch.__aenter__()
        self._task = asyncio.create_task(self._follow(), name="drains")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await cancel(self._task)
        await self.watch.__aexit__(kind, error, trace)

    async def settled(self, within: float) -> None:
        """Until they are known, or it is known that we may not know them; at most `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.watch.settled.wait()
                while not self.known and not self.denied:
                    await self._changed.wait()

    async def changes(self) -> AsyncGenerator[Drains, None]:
        """Endless: what they are, and what they are after every change."""
        while True:
            changed = self._changed
            yield self.drains
            await changed.wait()

    async def _follow(self) -> None:
        async for message in self.watch:
            before, self.drains = self.drains, fold(self.drains, message, self._fleet)
            first, self.known = not self.known, True
            self._saying.say("", logging.INFO, "%s may be read now", self.prefix)
            self._tell(before)
            if first or before != self.drains:
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    def _say_denied(self) -> None:
        text = "this etcd user may not read %s: what operators drain is not known here"
        self._saying.say("denied", logging.WARNING, text, self.prefix)

    def _tell(self, before: Drains) -> None:
        for key, why in self.drains.refused.items():
            if before.refused.get(key) != why:
                log.warning("%s marks nothing: %s", visible(key.decode(errors="replace")), visible(why))
        was, now = set(before), set(self.drains)
        for marker in sorted(now - was):
            log.info("an operator drains %s%s", marker, f": {marker.why}" if marker.why else "")
        for marker in sorted(was - now):
            log.info("an operator drains %s no more", marker)
