"""Where instances come from: a service's records in etcd, read as a stream of whole snapshots."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator

from ambcore.history import Changed, Listed, Message
from ambcore.model import Instance
from ambcore.schema import service_prefix
from ambcore.table import Diff, Reader, Rejection, Table, diff, fold
from ambnet.etcd import Etcd
from ambnet.watch import PrefixWatch

log = logging.getLogger("source")

# At most 20 snapshots a second. The first after a quiet time passes at once; in a storm the changes of 50 ms travel
# together, and those of longer while taking a snapshot up takes more than SHARE of the time: 10,000 instances are 30 ms
# of work for each process that carries bytes, and must not be all it does.
PERIOD, LONGEST = 0.05, 1.0
SHARE = 0.2


class EtcdSource:
    """One service's records, followed, while its `watch` is entered.

    `table` is what etcd holds, `served` what the reader of the snapshots has taken up; both are None before the first
    list, which means unknown, not empty. `known` is set with the first `served`. `rejected` counts refusals by reason,
    `refused` says why of each key whose record is refused now.
    """

    def __init__(self, etcd: Etcd, service: str, reader: Reader, *, relist: float) -> None:
        self.service = service
        self.reader = reader
        self.table: Table | None = None
        self.served: tuple[Instance, ...] | None = None
        self.known = asyncio.Event()
        self.rejected: Counter[str] = Counter()
        self.refused: dict[bytes, str] = {}
        self.watch = PrefixWatch(etcd, service_prefix(service, reader.prefix), relist=relist)

    async def snapshots(self) -> AsyncIterator[tuple[Instance, ...]]:
        """The service's instances, first when they are known and then after every change that matters."""
        next_at = 0.0
        async for message in self.watch:
            table, refused = fold(self.table or Table(), message, self.reader)
            change = diff(self.table or Table(), table)
            first = self.table is None
            self.table = table
            self._account(message, refused)
            self._report(first, change)
            if first or change:
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))
                began = time.monotonic()
                yield table.instances(self.service)
                took = time.monotonic() - began
                next_at = began + min(LONGEST, max(PERIOD, took / SHARE))
                self.served = table.instances(self.service)
                self.known.set()

    def _account(self, message: Message, refused: tuple[Rejection, ...]) -> None:
        """Count refusals and say each once, not at every safety relist."""
        said = self.refused
        self.refused = {} if isinstance(message, Listed) else dict(said)
        if isinstance(message, Changed):
            for event in message.events:
                self.refused.pop(event.key, None)
        for rejection in refused:
            self.rejected[rejection.error.reason] += 1
            self.refused[rejection.key] = why = str(rejection.error)
            if said.get(rejection.key) != why:
                kept = "; its last good state stays" if rejection.kept else ""
                log.warning("record %s refused: %s%s", rejection.key.decode(errors="replace"), why, kept)

    def _report(self, first: bool, change: Diff) -> None:
        if first and not change:
            log.info("%s: known, no instance yet", self.service)
        for instance in change.added:
            log.info("%s: + %s at %s", self.service, instance.id, instance.address)
        for instance in change.removed:
            log.info("%s: - %s at %s", self.service, instance.id, instance.address)
        for old, new in change.changed:
            log.info("%s: ~ %s %s", self.service, new.id, _difference(old, new))


def _difference(old: Instance, new: Instance) -> str:
    parts = [
        f"{name} {getattr(old, name)} -> {getattr(new, name)}"
        for name in ("address", "readiness", "weight")
        if getattr(old, name) != getattr(new, name)
    ]
    return ", ".join(parts) or "metadata"
