"""One record that a registrar keeps: the wish, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from ambcore.backoff import backoff
from ambcore.errors import RegistryDeniedError, RegistryError, RegistryRefusedError
from ambcore.history import KeyValue
from ambcore.model import Instance

REFUSALS = RegistryDeniedError, RegistryRefusedError  # asked again soon, etcd would say the same
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0  # seconds before it is asked again


def _pauses() -> Iterator[float]:
    return backoff(FIRST_PAUSE, LAST_PAUSE, random.random)


@dataclass(eq=False, slots=True)
class Record:
    """`wanted` is to stand under the instance id `id`.

    `revision` is that of our last confirmed write, 0 without one; `written` what it wrote, value and lease, None while
    something else is wanted. `superseded`: a newer life of this host has taken it over. `refusal` is why it can be
    neither written nor deleted until `again` (monotonic). Who writes does so in its `turn`.
    """

    wanted: Instance
    id: str
    revision: int = 0
    written: tuple[bytes, int] | None = None
    superseded: bool = False
    refusal: RegistryError | None = None
    again: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _pauses: Iterator[float] = field(default_factory=_pauses)

    @property
    def name(self) -> tuple[str, str]:
        """Service and instance, as they are wished for."""
        return self.wanted.service, self.wanted.id

    @property
    def put_off(self) -> bool:
        """Whether it is too early to ask again for what was refused."""
        return self.refusal is not None and time.monotonic() < self.again

    def waits(self, lease: int) -> bool:
        """Whether it is to be written under this lease, and is not."""
        return not self.superseded and (self.written is None or self.written[1] != lease)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One at a time. What is refused in it is raised at once by the next ones, for a while that grows."""
        async with self._lock:
            if self.refusal is not None and self.put_off:
                raise self.refusal.with_traceback(None)
            try:
                yield
            except REFUSALS as error:
                self.refusal, self.again = error, time.monotonic() + next(self._pauses)
                raise
            self.ask_anew()

    def compare(self, current: KeyValue | None, before: int | None) -> bool:
        """Mark it to be written if a list has it otherwise (`current`) than as we wrote it `before` that; whether so.

        What was written meanwhile is left out. Revisions cannot tell that: in a restored cluster they are lower.
        """
        if self.superseded:
            self.superseded = current is not None  # gone: ours again
            return False
        differs = current is None or current.revision != self.revision
        if not (self.written and differs and self.revision == before):
            return False
        self.written = None
        return True

    def forget_revision(self) -> None:
        """Etcd has lost its past: what it holds of our host now is no newer than what we hold."""
        if not self.superseded:
            self.revision, self.written = 0, None

    def ask_anew(self) -> None:
        """Forget what was refused: it was another wish, or there is another lease."""
        self.refusal, self._pauses = None, _pauses()
