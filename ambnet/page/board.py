"""Whom the page asks: a program about itself, or `ambctl ui` about the fleet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ambcore.findings import Finding
from ambcore.text import visible
from ambcore.version import VERSION
from ambnet.page.history import STEP, Counts, History
from ambnet.page.model import Said, Sight

log = logging.getLogger("page")


class Board(Protocol):
    """What there is to show."""

    @property
    def title(self) -> str:
        """What the page is of, in a few words."""

    explain_every: float
    """Seconds between two questions about the same service."""
    changed: asyncio.Event | None
    """Set when there is news, cleared by the page; None where only looking tells."""

    def look(self) -> Sight:
        """All that is known now."""

    async def explain(self, name: str) -> Sequence[Finding]:
        """What was decided about a service."""


class Program(Protocol):
    """What a program says of itself; `ambnet.http.Admin` is one."""

    @property
    def health(self) -> Callable[[], str | None]:
        """None, or what is wrong."""

    @property
    def status(self) -> Callable[[], Mapping[str, Any]]:
        """The status document."""

    @property
    def explain(self) -> Callable[[str], Sequence[Finding]]:
        """What was decided about a name."""


class OwnBoard:
    """A program's own page, from its status document and what it says of its health."""

    changed: asyncio.Event | None = None
    explain_every = 2.0

    def __init__(self, host: str, program: Program) -> None:
        self._host = host
        self._program = program

    @property
    def title(self) -> str:
        """Which program of which host."""
        return visible(f"{self._program.status().get('program', 'program')} on {self._host}")

    def look(self) -> Sight:
        """This program alone."""
        document = self._program.status()
        kind = str(document.get("program", "program"))
        said = Said(kind, document, self._program.health() or "", kind, self._host, "", VERSION)
        return Sight(time.time(), (said,))

    async def explain(self, name: str) -> Sequence[Finding]:
        """What this program knows of it."""
        return self._program.explain(name)


async def keep_history(history: History, counts: Callable[[], Mapping[str, Counts]]) -> None:
    """Endless: a sample at each step, whether somebody looks or not."""
    while True:
        try:
            history.sample(time.monotonic(), counts())
        except Exception:
            log.exception("no sample for the page's plots")
        await asyncio.sleep(STEP)
