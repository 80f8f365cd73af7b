"""The instances of a service that are served beyond their records: clock and questions; `ambcore.hold` decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable

from ambcore import hold
from ambcore.errors import RegistryError
from ambcore.hold import Loss, Missing
from ambcore.model import Instance
from ambnet.saying import Saying

log = logging.getLogger("hold")

LOOK = 0.1  # seconds between two looks at who still answers, while somebody is held
ASK_AGAIN = 2.0  # seconds before etcd is asked again what it did not answer
ANSWER_WITHIN = 2.0
AT_ONCE = 100  # leases asked of in one go; one is a registrar's, with all of its records

Ask = Callable[[int], Awaitable[int | None]]


class Holding:
    """`hold` says who is missing and who of those is served.

    `seconds` is for how long at most, 0 for never; `unhealthy` gives the ids of the service's instances that do not
    answer; `ask` the seconds that a lease has left, None if it has ended, or raises RegistryError.
    """

    def __init__(self, service: str, seconds: float, unhealthy: Callable[[], Collection[str]], ask: Ask) -> None:
        self.hold = hold.NOTHING
        self.total = 0  # how many were held so far
        self._service = service
        self.seconds = seconds
        self._unhealthy = unhealthy
        self._ask = ask
        self._counted: set[tuple[str, float]] = set()
        self._present: tuple[Instance, ...] = ()
        self._stirred = asyncio.Event()
        self._saying = Saying(log)

    @property
    def held(self) -> tuple[Missing, ...]:
        """Those that are served though their records are gone."""
        return self.hold.held

    def vanished(self, gone: Iterable[Missing]) -> None:
        """Take in that records have vanished."""
        if self.seconds:
            self.hold = hold.lose(self.hold, gone, self._unhealthy())

    def over(self, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        """The instances whose records stand, and those that are held beside them."""
        self._present = instances
        self._review()
        return self.hold.over(instances)

    async def changes(self) -> AsyncGenerator[None, None]:
        """Endless: tells when somebody is not held any more, for `over` to be asked again."""
        ask_at = 0.0
        while True:
            if not self.held:
                self._say()
                self._stirred.clear()
                await self._stirred.wait()
                ask_at = 0.0
            if self.hold.questions and ask_at <= time.monotonic():
                await self._ask_leases()
                ask_at = time.monotonic() + ASK_AGAIN
            else:
                await asyncio.sleep(LOOK)
            before = self.held
            self._review()
            self._say()
            if self.held != before:
                yield

    def _review(self) -> None:
        self.hold = hold.review(self.hold, self._present, self._unhealthy(), time.monotonic(), seconds=self.seconds)
        sure = {(each.instance.id, each.since) for each in self.held if each.loss is not Loss.UNKNOWN}
        self.total += len(sure - self._counted)
        self._counted = sure
        if self.held:
            self._stirred.set()

    async def _ask_leases(self) -> None:
        """Find out whether leases live. What etcd does not answer stays unknown, and those instances held."""
        leases = sorted(self.hold.questions)[:AT_ONCE]
        answers = await asyncio.gather(*map(self._lives, leases))
        for lease, lives in zip(leases, answers, strict=True):
            if lives is not None:
                self.hold = self.hold.answered(lease, lives)

    async def _lives(self, lease: int) -> bool | None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await self._ask(lease) is not None
        except (RegistryError, TimeoutError) as error:
            log.debug("%s: lease %x: %s", self._service, lease, error)
            return None

    def _say(self) -> None:
        held = self.held
        if not held:
            self._saying.say("", logging.INFO, "%s: nobody is served beyond their records any more", self._service)
            return
        text = "%s: %d records vanished and nobody deleted them (%s): who answers is served on, for %g s at most"
        self._saying.say("held", logging.WARNING, text, self._service, len(held), held[-1].loss.value, self.seconds)
