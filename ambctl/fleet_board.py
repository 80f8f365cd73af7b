"""What `ambctl ui` shows: records, programs and drains by watches on etcd, and what every program says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ambcore.drains import Drains
from ambcore.drains import fold as fold_drains
from ambcore.errors import AmbassadorError, RecordError, RegistryError
from ambcore.findings import Finding, Level
from ambcore.fleet import DRAINS, PROGRAMS, Announcement, decode_program
from ambcore.history import KeyDeleted, KeyValue, Listed, Message
from ambcore.states import Watch
from ambctl.asked import time_left
from ambctl.common import Common
from ambnet.announce import host_name
from ambnet.asking import Failure, ask
from ambnet.daemon import background
from ambnet.etcd import Etcd
from ambnet.page.gather import drained_by, fleet
from ambnet.page.history import Counts, Totals
from ambnet.page.model import EtcdSight, Record, Said, Sight
from ambnet.watch import PrefixWatch

ANSWER = 1.5  # seconds that a program has to answer
PERIOD = 1.0  # seconds between two questions while a page is open
SELDOM = 10.0  # while none is: the plots go on
OPEN = 5.0  # seconds after a page's last look during which it counts as open
LEASES = 3.0  # seconds between two questions how long leases have left
MOST_LEASES = 200  # of them asked for; one a registrar
MOST_RECORDS = 20_000

Explain = Callable[[str], Awaitable[Sequence[Finding]]]


@dataclass(slots=True)
class Known:
    """What etcd said last."""

    items: dict[bytes, KeyValue] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Fold a message in; what is beyond MOST_RECORDS is left out."""
        if isinstance(message, Listed):
            self.items = {item.key: item for item in message.items[:MOST_RECORDS]}
            return
        for event in message.events:
            if isinstance(event, KeyDeleted):
                self.items.pop(event.key, None)
            elif event.key in self.items or len(self.items) < MOST_RECORDS:
                self.items[event.key] = event


class FleetBoard:
    """A board of everything; `run` it beside the server."""

    explain_every = 10.0  # it asks every program, dials every instance

    def __init__(self, settings: Common, etcd: Etcd, explain: Explain) -> None:
        self.title = "Ambassadors"
        self.changed: asyncio.Event | None = asyncio.Event()
        self._settings = settings
        self._etcd = etcd
        self._explain = explain
        self._here = host_name()
        self._records, self._programs = Known(), Known()
        self._drains = Drains()
        self._totals = Totals()
        self._read: tuple[Record, ...] | None = None
        self._answers: Mapping[str, object] = {}
        self._leases: Mapping[int, float] = {}
        self._looked = float("-inf")
        self._wanted = asyncio.Event()
        self._watch = PrefixWatch(etcd, settings.prefix)

    @property
    def known(self) -> bool:
        """Whether the records were listed once."""
        return self._watch.revision > 0

    @property
    def announced(self) -> tuple[Announcement, ...]:
        """The programs that take part, sorted."""
        found = []
        for item in self._programs.items.values():
            with contextlib.suppress(RecordError):
                found.append(decode_program(item.key, item.value, self._settings.fleet_prefix))
        return tuple(sorted(found, key=lambda program: (program.kind, program.host, program.id)))

    def look(self) -> Sight:
        """All that is known now."""
        self._looked = time.monotonic()
        self._wanted.set()
        watch, etcd = self._watch, self._etcd
        sight = EtcdSight(
            etcd.endpoint,
            etcd.connected,
            etcd.last_error or "",
            watch.age(),
            watch.state is Watch.WATCHING,
            watch.revision,
            etcd.members,
        )
        return Sight(time.time(), self._said(), self._recorded(), self._leases, sight)

    async def explain(self, name: str) -> Sequence[Finding]:
        """What `ambctl explain` says."""
        try:
            return await self._explain(name)
        except AmbassadorError as error:
            return (Finding(Level.UNKNOWN, "explain", str(error)),)

    def counts(self) -> Mapping[str, Counts]:
        """What each service carried since this began, over all proxies that answer; to be asked by one alone."""
        found = fleet(Sight(time.time(), self._said(), ()))
        works = {(service.name, stand.program): stand.work for service in found.services for stand in service.stands}
        return self._totals.take(
            {key: Counts(did.active, did.begun, did.bytes, did.failed) for key, did in works.items()}
        )

    async def run(self) -> None:
        """Endless: follow etcd, and ask the programs."""
        prefix = self._settings.fleet_prefix
        async with background(
            lambda: self._follow(self._watch, self._take_records),
            lambda: self._follow(PrefixWatch(self._etcd, f"{prefix}{PROGRAMS}"), self._programs.take),
            lambda: self._follow(PrefixWatch(self._etcd, f"{prefix}{DRAINS}"), self._take_drains),
            self._ask_programs,
            self._ask_leases,
        ):
            await asyncio.Event().wait()

    async def _follow(self, watch: PrefixWatch, take: Callable[[Message], None]) -> None:
        async with watch as messages:
            async for message in messages:
                take(message)
                self._news()

    def _news(self) -> None:
        if self.changed is not None:
            self.changed.set()

    def _take_records(self, message: Message) -> None:
        self._records.take(message)
        self._read = None

    def _take_drains(self, message: Message) -> None:
        self._drains = fold_drains(self._drains, message, self._settings.fleet_prefix)
        self._read = None

    def _recorded(self) -> tuple[Record, ...]:
        """Every record as the proxies read it, in the order of keys; read anew after a change only."""
        if self._read is None:
            items = self._records.items
            self._read = tuple(self._record(items[key]) for key in sorted(items))
        return self._read

    def _record(self, item: KeyValue) -> Record:
        try:
            found = self._settings.reader.read(item)
        except RecordError as error:
            return Record(item, str(error))
        marker = self._drains.hitting(found)
        why = drained_by(marker.by, marker.why, marker.host) if marker else ""
        return Record(item, self._drains.over((found,))[0], why)

    def _said(self) -> tuple[Said, ...]:
        """Every announced program with its last answer."""
        said = []
        for each in self.announced:
            answer = self._answers.get(each.id)
            if isinstance(answer, dict):
                document, error = answer, ""
            else:
                document, error = None, self._unasked(each, answer)
            said.append(
                Said(
                    each.id,
                    document,
                    error,
                    each.kind.value,
                    each.host,
                    each.admin or "",
                    each.version,
                    each.unreachable,
                )
            )
        return tuple(said)

    def _unasked(self, program: Announcement, answer: object) -> str:
        """Why there is no answer; empty while nobody has asked."""
        if program.admin is None:
            return "it has no --admin"
        if program.admin_from(self._here) is None:
            return f"its --admin listens on loopback of {program.host} alone"
        if isinstance(answer, Failure):
            return answer.why
        return "" if answer is None else "answered something else than a status"

    async def _ask_programs(self) -> None:
        """Endless: every program's status, at once."""
        while True:
            urls = {each.id: f"{url}/status.json" for each in self.announced if (url := each.admin_from(self._here))}
            self._answers = await ask(urls, ANSWER)
            self._news()
            await self._pause(PERIOD)

    async def _ask_leases(self) -> None:
        """Endless: how long each lease has left, while somebody looks."""
        while True:
            leases = sorted({item.lease for item in self._records.items.values()} - {0})[:MOST_LEASES]
            with contextlib.suppress(RegistryError, TimeoutError):
                async with asyncio.timeout(self._settings.timeout):
                    left = await time_left(self._etcd, leases)
                    now = time.time()
                    self._leases = {lease: now + seconds for lease, seconds in left.items() if seconds is not None}
            await self._pause(LEASES)

    async def _pause(self, seconds: float) -> None:
        """So long while a page is open, else until one is opened, at most SELDOM."""
        if time.monotonic() - self._looked < OPEN:
            await asyncio.sleep(seconds)
            return
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SELDOM):
                await self._wanted.wait()
