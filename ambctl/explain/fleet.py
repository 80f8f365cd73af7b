"""What etcd tells of the records, of those who take part, and of what operators drained."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ambcore.drains import Drains
from ambcore.errors import RecordError, RegistryError
from ambcore.fleet import Announcement
from ambcore.history import KeyValue, Listed
from ambcore.model import Instance
from ambcore.schema import split_key
from ambctl.asked import time_left
from ambctl.common import Common, patience
from ambctl.explain.facts import Record
from ambctl.explain.subject import Subject
from ambnet.etcd import Etcd
from ambnet.fleet import drains, programs

UNKNOWN = -1  # seconds left of a lease that etcd does not tell of


class Fleet:
    """What etcd told when it was last `read`; `error` and `fleet_error` are why it did not, empty where it did."""

    def __init__(self, settings: Common, etcd: Etcd) -> None:
        self.listed = Listed((), 0)
        self.programs: tuple[Announcement, ...] = ()
        self.drains = Drains()
        self.error = self.fleet_error = ""
        self._settings = settings
        self._etcd = etcd

    async def read(self) -> None:
        """Ask for all of it; may be called again."""
        prefix = self._settings.fleet_prefix
        try:
            async with patience(self._settings, self._etcd):
                self.listed = await self._etcd.list(self._settings.prefix.encode())
        except RegistryError as error:
            self.error = str(error)
            return
        try:
            async with patience(self._settings, self._etcd):
                self.programs = await programs(self._etcd, prefix)
                self.drains = await drains(self._etcd, prefix)
        except RegistryError as error:
            self.fleet_error = str(error)

    def records(self, subject: Subject, containers: Collection[str] = ()) -> tuple[Record, ...]:
        """Those that are meant, in the order of keys: of the subject's instances, and of containers by full id."""
        return tuple(
            record
            for item in sorted(self.listed.items, key=lambda item: item.key)
            if (record := self._record(item)) is not None
            and ((record.service, record.id) in subject.keys or _container(record) in containers)
        )

    def _record(self, item: KeyValue) -> Record | None:
        """A record read, or refused with the reason; None for a key that is none's."""
        try:
            key = split_key(item.key, self._settings.prefix)
        except RecordError:
            return None
        try:
            found = self._settings.reader.read(item)
        except RecordError as error:
            return Record(item, error, *key)
        return Record(item, found, *key, marker=self.drains.hitting(found))

    async def left(self, leases: Iterable[int]) -> dict[int, int | None]:
        """The seconds that these leases have left, None for one that has ended, UNKNOWN where etcd does not tell."""
        wanted = dict.fromkeys(leases, UNKNOWN)
        try:
            async with patience(self._settings, self._etcd):
                return {**wanted, **await time_left(self._etcd, wanted)}
        except RegistryError:
            return {**wanted}


def _container(record: Record) -> str | None:
    return record.found.container if isinstance(record.found, Instance) else None
