"""`ambctl top`: who carries how much, now."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ambcore.drains import Drains
from ambcore.errors import RecordError, RegistryError
from ambcore.fleet import Announcement
from ambcore.history import Listed
from ambcore.text import visible
from ambctl import frame
from ambctl.asked import announced, drained
from ambctl.common import DONE, Common, complain, patience, print_json, print_lines
from ambctl.screen import Screen
from ambctl.view import entries
from ambnet.announce import host_name
from ambnet.asking import Failure, ask
from ambnet.daemon import cancel
from ambnet.etcd import Etcd
from ambnet.options import switch
from ambnet.page.gather import fleet as gathered
from ambnet.page.model import EtcdSight, Record, Said, Sight

PERIOD = 1.0  # seconds between frames
RELIST = 3.0  # seconds between two looks at all records: a thousand are some 250 KiB
ANSWER = 1.0  # seconds that a program has to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Top(Common):
    """Show what each service and instance carries now, the busiest first: connections open, begun, bytes and failures a
    second, as all announced dynproxies count them. q or Ctrl-C ends it. Into a pipe, and as JSON, it is one frame.
    """

    EXAMPLES = ("ambctl top", "ambctl top --once", "ambctl top --json | jq '.services[0].name'")

    once: bool = switch("--once", help="print one frame, with what happened within a second, and end")


class Sights:
    """Looks at the fleet: programs each time, etcd every RELIST seconds. While etcd is away, its last word stands."""

    def __init__(self, settings: Top, etcd: Etcd) -> None:
        self._settings, self._etcd = settings, etcd
        self._listed, self._programs, self._drains = Listed((), 0), tuple[Announcement, ...](), Drains()
        self._read_at = float("-inf")
        self._proven: float | None = None
        self._error = ""

    async def look(self) -> Sight:
        """The fleet now. Raises RegistryError as long as etcd has never answered."""
        if time.monotonic() - self._read_at >= RELIST:
            await self._read()
        said = await self._said()
        age = None if self._proven is None else time.monotonic() - self._proven
        etcd = EtcdSight(self._etcd.endpoint, not self._error, self._error, age, revision=self._listed.revision)
        return Sight(time.time(), said, self._records(), etcd=etcd)

    async def _read(self) -> None:
        prefix = self._settings.fleet_prefix
        try:
            async with patience(self._settings, self._etcd):
                self._listed = await self._etcd.list(self._settings.prefix.encode())
                self._programs = await announced(self._etcd, prefix)
                self._drains = await drained(self._etcd, prefix)
        except RegistryError as error:
            if self._proven is None:
                raise
            self._error = visible(str(error))
        else:
            self._error, self._proven = "", time.monotonic()
        self._read_at = time.monotonic()

    def _records(self) -> tuple[Record, ...]:
        found = []
        for entry in entries(self._listed, self._settings.reader):
            if isinstance(entry.found, RecordError):
                found.append(Record(entry.item, str(entry.found)))
            else:
                found.append(Record(entry.item, self._drains.over((entry.found,))[0]))
        return tuple(found)

    async def _said(self) -> tuple[Said, ...]:
        here = host_name()
        urls = {each.id: f"{url}/status.json" for each in self._programs if (url := each.admin_from(here))}
        answers = await ask(urls, ANSWER)
        said = []
        for each in self._programs:
            answer = answers.get(each.id, Failure(_unasked(each.admin, each.host)))
            document = answer if isinstance(answer, dict) else None
            error = "" if document is not None else answer.why if isinstance(answer, Failure) else "answered no object"
            said.append(Said(each.id, document, error, each.kind.value, each.host, each.admin or "", each.version))
        return tuple(said)


def _unasked(admin: str | None, host: str) -> str:
    return "it has no --admin" if admin is None else f"its --admin listens on loopback of {host} alone"


async def top(settings: Top) -> int:
    """Frames until somebody has seen enough, or one."""
    async with Etcd(settings.etcd_config()) as etcd:
        sights, watching = Sights(settings, etcd), frame.Watching()

        async def look() -> frame.Frame:
            sight = await sights.look()
            return watching.frame(gathered(sight), sight.at, time.monotonic())

        if settings.once or settings.json or not sys.stdout.isatty():
            await look()
            await asyncio.sleep(PERIOD)  # a rate takes two looks
            found = await look()
            if settings.json:
                print_json(frame.document(found))
            else:
                print_lines(frame.lines(found, settings.paper))
                for text in frame.notices(found) if settings.paper.plain else ():
                    complain(text)
            return DONE
        first = await look()
        with Screen() as screen:
            await _live(settings, screen, first, look)
        return screen.code


async def _live(settings: Top, screen: Screen, found: frame.Frame, look: Callable[[], Awaitable[frame.Frame]]) -> None:
    """Show frames until the screen is over. A look that takes long delays neither keys nor the terminal's new size."""

    async def keep_looking() -> None:
        nonlocal found
        while True:
            await asyncio.sleep(PERIOD)
            found = await look()
            screen.changed.set()

    async def keep_showing() -> None:
        while True:
            screen.changed.clear()
            screen.show(frame.lines(found, settings.paper, shutil.get_terminal_size().lines))
            await screen.changed.wait()

    tasks = [asyncio.create_task(each) for each in (keep_looking(), keep_showing(), screen.over.wait())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await cancel(*tasks)
    for task in done:
        task.result()
