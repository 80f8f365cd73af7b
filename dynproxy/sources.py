"""Where instances come from, as a stream of whole snapshots: a service's records in etcd are one such source."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

from ambcore.fleet import Drain
from ambcore.history import Changed, KeyDeleted, Listed, Message
from ambcore.hold import Missing, first_loss
from ambcore.model import Instance
from ambcore.schema import service_prefix
from ambcore.states import Watch
from ambcore.table import Diff, Reader, Rejection, Table, diff, fold
from ambnet.etcd import Etcd
from ambnet.fleet import DrainWatch
from ambnet.merged import merged
from ambnet.saying import Ration
from ambnet.watch import PrefixWatch
from dynproxy.holding import Holding
from dynproxy.memory import Memory

log = logging.getLogger("source")
told = Ration(log)  # whoever writes records decides how many lines there are of them

# At most 20 snapshots a second. The first after a quiet time passes at once; in a storm the changes of 50 ms travel
# together, and those of longer while taking a snapshot up takes more than SHARE of the time: 10,000 instances are 30 ms
# of work for each process that carries bytes, and must not be all it does.
PERIOD, LONGEST = 0.05, 1.0
SHARE = 0.2

# Seconds that the first snapshot waits for operators' drains, which etcd tells about as soon as about records: what was
# drained before a restart of ours gets no client after it either.
HOLD = 1.0


@dataclass(frozen=True, slots=True)
class Sight:
    """How well a source sees, for people and metrics.

    `age` is the seconds since the view was last proven current, None before the first time; `error` why it is not
    current; `denied` that somebody has to allow us to look. `drift` counts differences that a safety look found,
    `rejected` refusals by reason; `refused` says why of each record, by its name, that is refused now. `recalled`: the
    view is that of an earlier life.
    """

    watch: Watch
    age: float | None
    revision: int = 0
    error: str | None = None
    denied: bool = False
    drift: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    recalled: bool = False


class Source(Protocol):
    """One service's instances, as long as it is entered.

    `served` is what the reader of the snapshots has taken up, None before the first, which means unknown, not empty;
    `known` is set with the first.
    """

    service: str
    served: tuple[Instance, ...] | None
    known: asyncio.Event
    trusted: bool
    """Whether a new instance counts as healthy until a check says otherwise, rather than the other way round."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def snapshots(self) -> AsyncGenerator[tuple[Instance, ...], None]:
        """Endless: the service's instances, first when they are known and then after every change that matters."""

    def sight(self) -> Sight:
        """How well it sees now."""


class EtcdSource:
    """One service's records, and what operators drained of them, a Source.

    `table` is what etcd holds, None before the first list; `drains` has to be entered by whoever shares it, `memory`
    to be run. `holding` says who is served though the record is gone.
    """

    trusted = True  # its registrar says that it is up

    def __init__(
        self,
        etcd: Etcd,
        service: str,
        reader: Reader,
        drains: DrainWatch,
        *,
        relist: float,
        hold: float = HOLD,
        holding: Holding | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.service = service
        self.reader = reader
        self.table: Table | None = None
        self.served: tuple[Instance, ...] | None = None
        self.known = asyncio.Event()
        self.rejected: Counter[str] = Counter()
        self.refused: dict[bytes, str] = {}
        self.holding = holding or Holding(service, 0.0, frozenset, etcd.time_to_live)
        self._prefix = service_prefix(service, reader.prefix)
        self._memory = memory or Memory(None)
        self.watch = PrefixWatch(etcd, self._prefix, relist=relist, remembered=self._memory.recall(self._prefix))
        self._drains = drains
        self._hold = hold
        self._leases: dict[bytes, int] = {}
        self._past = 0

    async def __aenter__(self) -> Self:
        await self.watch.__aenter__()
        self._memory.keep(self._prefix, self.watch, lambda: bool(self.holding.held))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.watch.__aexit__(kind, failure, trace)
        await self._memory.leave(self._prefix)

    def sight(self) -> Sight:
        """How well it sees now."""
        watch = self.watch
        return Sight(
            watch.state,
            watch.age(),
            watch.revision,
            watch.last_error,
            watch.denied,
            watch.drift_total,
            self.rejected,
            {key.decode(errors="replace"): why for key, why in self.refused.items()},
            watch.recalled,
        )

    def drained_by(self, instance: Instance) -> Drain | None:
        """The operator's marker that drains an instance, None where there is none."""
        return self._drains.drains.hitting(instance)

    async def snapshots(self) -> AsyncGenerator[tuple[Instance, ...], None]:
        """The service's instances, first when they are known and then after every change that matters."""
        shown: Table | None = None
        next_at = 0.0
        streams = merged(self.watch, self._drains.changes(), self.holding.changes())
        async with contextlib.aclosing(streams) as news:
            async for one in news:
                if isinstance(one, Listed | Changed):
                    self._take(one)
                if self.table is None:
                    continue
                if shown is None:
                    await self._drains.settled(self._hold)
                table = self._marked(self.table)
                change = diff(shown or Table(), table)
                self._report(shown is None, change)
                if shown is None or change:
                    shown = table
                    await asyncio.sleep(max(0.0, next_at - time.monotonic()))
                    began = time.monotonic()
                    yield table.instances(self.service)
                    took = time.monotonic() - began
                    next_at = began + min(LONGEST, max(PERIOD, took / SHARE))
                    self.served = table.instances(self.service)
                    self.known.set()

    def _take(self, message: Message) -> None:
        before = self._recalled() if self.table is None else self.table
        self.table, refused = fold(self.table or Table(), message, self.reader)
        self._account(message, refused)
        self.holding.vanished(self._missing(message, before, self.table))
        if isinstance(message, Listed):
            self._past = message.past
            self._leases = {item.key: item.lease for item in message.items}
            return
        for event in message.events:
            if isinstance(event, KeyDeleted):
                self._leases.pop(event.key, None)
            else:
                self._leases[event.key] = event.lease

    def _recalled(self) -> Table:
        """What an earlier life knew, as far as those could still be held whose records are gone since."""
        known = self.watch.remembered
        if known is None or known.age > self.holding.seconds:
            return Table()
        self._leases = {item.key: item.lease for item in known.snapshot.items}
        return fold(Table(), Listed(known.snapshot.items, known.snapshot.revision), self.reader)[0]

    def _missing(self, message: Message, before: Table, after: Table) -> Iterator[Missing]:
        """Those whose records a message has taken away, as operators wanted them."""
        rewound = isinstance(message, Listed) and message.past != self._past
        gone: Iterable[Instance]
        if isinstance(message, Listed):
            gone = diff(before, after).removed
        else:
            keys = dict.fromkeys(event.key for event in message.events if isinstance(event, KeyDeleted))
            names = (key.removeprefix(self._prefix.encode()).decode(errors="replace") for key in keys)
            found = (before.find(self.service, name) for name in names)
            gone = (item for item in found if item and not after.find(self.service, item.id))
        for item in self._drains.drains.over(tuple(gone)):
            lease = self._leases.get(f"{self._prefix}{item.id}".encode(), 0)
            yield Missing(item, time.monotonic(), first_loss(lease, rewound=rewound), lease)

    def _marked(self, table: Table) -> Table:
        """A table with those that are held, and the operators' word on it."""
        found = table.instances(self.service)
        marked = self._drains.drains.over(self.holding.over(self._drains.drains.over(found)))
        return table if marked is found else Table(MappingProxyType({**table.services, self.service: marked}))

    def _account(self, message: Message, refused: tuple[Rejection, ...]) -> None:
        """Count refusals and say each once, not at every safety relist."""
        if isinstance(message, Changed):
            said = {event.key: why for event in message.events if (why := self.refused.pop(event.key, None))}
        else:
            said, self.refused = self.refused, {}
        for rejection in refused:
            self.rejected[rejection.error.reason] += 1
            self.refused[rejection.key] = why = str(rejection.error)
            if said.get(rejection.key) != why:
                kept = "; its last good state stays" if rejection.kept else ""
                name = rejection.key.decode(errors="replace")
                told.say(logging.WARNING, "record %s refused: %s%s", name, why, kept)

    def _report(self, first: bool, change: Diff) -> None:
        if first and not change:
            log.info("%s: known, no instance yet", self.service)
        for instance in change.added:
            told.say(logging.INFO, "%s: + %s at %s", self.service, instance.id, instance.address)
        for instance in change.removed:
            told.say(logging.INFO, "%s: - %s at %s", self.service, instance.id, instance.address)
        for old, new in change.changed:
            told.say(logging.INFO, "%s: ~ %s %s", self.service, new.id, _difference(old, new))


def _difference(old: Instance, new: Instance) -> str:
    parts = [
        f"{name} {getattr(old, name)} -> {getattr(new, name)}"
        for name in ("address", "readiness", "weight")
        if getattr(old, name) != getattr(new, name)
    ]
    return ", ".join(parts) or "metadata"
