"""Keep the records of our instances in etcd: ours, all of ours, and nobody else's.

Whose a record is, it says itself: `owner` is the host, `epoch` the life of the process that wrote it. Every write is
compared with what was seen before, and nothing is deleted that changed since. A record of

- our own epoch is ours to change;
- our host's earlier life is adopted, once, when we first ask for its key. Somebody of our host who takes a key that we
  have held is newer than we are: we leave it alone until it is gone;
- anybody else is never touched: ours goes beside it as `<instance>@<host>`.

A wish (`hold`, `release`) is remembered before it is written, so what fails now is written as soon as etcd is back. One
that etcd refuses is tried again with pauses that grow, and concerns no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from ambcore.backoff import backoff
from ambcore.errors import LeaseLostError, RecordError, RegistryError, RegistryRefusedError, RegistryUnavailableError
from ambcore.history import KeyValue
from ambcore.model import MAX_INSTANCE, Instance, check_name
from ambcore.replay import Snapshot
from ambcore.schema import DEFAULT_PREFIX, decode_record, encode_record, record_key
from ambnet.etcd import Etcd
from ambnet.etcd.errors import NotSentError
from ambnet.lease import LeaseKeeper
from ambnet.record import REFUSALS, Record
from ambnet.saying import Saying

log = logging.getLogger("registry")

LEASE_WAIT = 5.0  # seconds that a write waits for a lease before it fails
AUDIT = 60.0  # seconds between comparisons of what we hold with what etcd holds, +- 20 %
FIRST_PAUSE, LAST_PAUSE = 0.1, 0.5  # before unwritten wishes are tried again; calls wait for etcd themselves
SPREAD = 5.0  # seconds in which all registrars that etcd has returned to compare what they hold
AT_ONCE = 16  # writes under way together; a thousand records take about a second
CLAIMS = 8  # a key that changes this often between two steps is somebody's defect


class Registry:
    """An async context manager; `keeper` has to be entered already, and is closed by `close`.

    `owner` names the host, `epoch` this process's life. For status and metrics: `held`, `conflicts` (records that stand
    beside another's or were taken over), `repairs` (what an audit had to put right), `last_error`.
    """

    def __init__(
        self,
        etcd: Etcd,
        keeper: LeaseKeeper,
        *,
        owner: str,
        epoch: str,
        prefix: str = DEFAULT_PREFIX,
        audit: float = AUDIT,
    ) -> None:
        self.conflicts = 0
        self.repairs = 0
        self.last_error: str | None = None
        self._etcd = etcd
        self._keeper = keeper
        self._owner = check_name("host id", owner, MAX_INSTANCE)
        self._epoch = epoch
        self._prefix = prefix
        self._audit_every = audit
        self._records: dict[tuple[str, str], Record] = {}
        self._leaving: dict[tuple[str, str], Record] = {}  # released, and still to be deleted
        self._due = asyncio.Event()
        self._doubted = False
        self._audited = time.monotonic()
        self._spread = random.uniform(0.8, 1.2)  # noqa: S311
        self._cluster = 0
        self._saying = Saying(log)
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> dict[str, Instance]:
        """Every confirmed record, by key."""
        return {self._key(item).decode(): item.wanted for item in self._records.values() if item.written}

    @property
    def superseded(self) -> frozenset[tuple[str, str]]:
        """Service and instance of our records that another registrar of this host has taken over."""
        return frozenset(name for name, record in self._records.items() if record.superseded)

    async def __aenter__(self) -> Self:
        self._keeper.on_new_lease = self._on_new_lease
        self._keeper.on_doubt = self._doubt
        self._task = asyncio.create_task(self._run(), name="registry")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(deregister=False)

    async def close(self, deregister: bool) -> None:
        """Stop. `deregister`: all records vanish now, with the lease; otherwise they stay for the rest of its TTL."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._keeper.close(revoke=deregister)

    async def hold(self, instance: Instance) -> str:
        """Have a record for this instance until `release`; called again, it changes the record.

        Returns the instance id that the record stands under. Raises RegistryError when it could not be written now; it
        will be as soon as that is possible.
        """
        key = instance.service, instance.id
        wanted = replace(instance, owner=self._owner, epoch=self._epoch)
        held = self._records.get(key)
        record = held or self._leaving.pop(key, None) or Record(wanted, wanted.id)
        if held is None or held.wanted != wanted:
            record.ask_anew()
        record.wanted = wanted
        record.written = record.written if record.written and record.written[0] == encode_record(wanted) else None
        self._records[key] = record
        await self._write_or_wake(self._write(record))
        return record.id

    async def release(self, service: str, id: str) -> None:  # noqa: A002 - the field's own name
        """Delete the record of an instance, if it is still ours. Raises RegistryError; it is deleted later, then."""
        if held := self._records.pop((service, id), None):
            held.ask_anew()
            held.written = None
            self._leaving[service, id] = held
        if record := self._leaving.get((service, id)):
            await self._write_or_wake(self._delete(record))

    async def stands(self, instance: Instance) -> bool:
        """Whether an earlier life of this host's left a record of this instance that says the same address.

        Raises RegistryError.
        """
        for name in (instance.id, f"{instance.id}@{self._owner}"):
            item = await self._etcd.get(record_key(instance.service, name, self._prefix).encode())
            if item is not None and self._is_an_earlier_lifes(item, instance):
                return True
        return False

    def _is_an_earlier_lifes(self, item: KeyValue, instance: Instance) -> bool:
        owner, epoch = self._says(item)
        if owner != self._owner or epoch == self._epoch:
            return False
        return decode_record(item.key, item.value, self._prefix).address == instance.address

    async def _write_or_wake(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException:
            self._due.set()
            raise
        if self.last_error:  # perhaps nothing waits any more
            self._due.set()

    # Writing one record

    async def _write(self, record: Record) -> None:
        async with record.turn():
            for _ in range(3):  # a lease may be lost between two steps
                lease = await self._keeper.held(LEASE_WAIT)
                if self._records.get(record.name) is not record:
                    return  # released while we waited
                try:
                    await self._write_under(record, lease)
                except LeaseLostError:
                    self._keeper.lost(lease)
                else:
                    return
            raise RegistryUnavailableError("leases are lost as soon as they are granted")

    async def _write_under(self, record: Record, lease: int) -> None:
        value = encode_record(record.wanted)
        if record.written == (value, lease):
            return
        if await self._claim(record, value, lease):
            return
        beside = f"{record.wanted.id}@{self._owner}"
        if record.id != beside:
            self.conflicts += 1
            theirs = self._key(record).decode()
            log.warning("%s belongs to another host: our record goes beside it as %s", theirs, beside)
            record.id, record.revision, record.written = beside, 0, None
            if await self._claim(record, value, lease):
                return
        raise RegistryRefusedError(f"{self._key(record).decode()} belongs to somebody else, too")

    async def _claim(self, record: Record, value: bytes, lease: int) -> bool:
        """Write, adopt or leave to a newer life; False when the key is another's."""
        self._check(self._key(record), value)
        expected = record.revision
        for _ in range(CLAIMS):
            outcome = await self._put_if(self._key(record), value, lease, expected)
            if isinstance(outcome, int):
                record.revision, record.written, record.superseded = outcome, (value, lease), False
                return True
            if outcome is None:
                expected = 0
                continue
            owner, epoch = self._says(outcome)
            if owner != self._owner:
                return False
            if epoch != self._epoch and record.revision:
                self._superseded(record)
                return True
            expected = outcome.revision
        raise RegistryUnavailableError(f"{self._key(record).decode()} changes faster than it can be written")

    async def _put_if(self, key: bytes, value: bytes, lease: int, expected: int) -> int | KeyValue | None:
        """`Etcd.put_if` that finds out what became of a write whose answer was lost."""
        try:
            outcome = await self._etcd.put_if(key, value, lease, revision=expected)
        except NotSentError:
            raise
        except RegistryUnavailableError:
            outcome = await self._etcd.get(key)
        if isinstance(outcome, KeyValue) and (outcome.value, outcome.lease) == (value, lease):
            return outcome.revision
        return outcome

    def _check(self, key: bytes, value: bytes) -> None:
        """Refuse what readers would ignore: nobody would see the record, and nobody say why."""
        try:
            decode_record(key, value, self._prefix)
        except RecordError as error:
            raise RegistryRefusedError(f"{key.decode()[:80]} would be ignored by its readers: {error}") from error

    def _superseded(self, record: Record) -> None:
        record.written = None
        if not record.superseded:
            record.superseded = True
            self._due.set()  # the next audit is to be sooner
            self.conflicts += 1
            log.error(
                "%s was taken over by another registrar of this host (%s): it is left alone until it is gone",
                self._key(record).decode(),
                self._owner,
            )

    def _says(self, item: KeyValue) -> tuple[str | None, str | None]:
        """Owner and epoch of a record as it says; nobody's when it cannot be read."""
        try:
            instance = decode_record(item.key, item.value, self._prefix)
        except RecordError:
            return None, None
        return instance.owner, instance.epoch

    # Deleting one record

    async def _delete(self, record: Record) -> None:
        """Delete a leaving record if it is still ours."""
        async with record.turn():
            if self._leaving.get(record.name) is not record:
                return  # deleted, or wanted again
            key = self._key(record)
            if not record.revision or not await self._etcd.delete_if(key, revision=record.revision):
                await self._delete_later_write(key)
            record.revision, record.written = 0, None
            if self._leaving.get(record.name) is record:
                del self._leaving[record.name]

    async def _delete_later_write(self, key: bytes) -> None:
        """A write whose answer was lost may have changed the key after the revision that we know."""
        current = await self._etcd.get(key)
        if current is not None and self._is_ours(current):
            await self._etcd.delete_if(key, revision=current.revision)

    def _is_ours(self, item: KeyValue) -> bool:
        """Whether this very process wrote it. Other registrars of this host have records of their own."""
        return self._says(item) == (self._owner, self._epoch)

    # What goes on in the background

    def _on_new_lease(self, _: int) -> None:
        for record in self._records.values():
            record.ask_anew()
            record.written = None
        self._due.set()

    def _doubt(self, sure: bool) -> None:
        """Have everything compared with etcd, which may have lost what we wrote; unless `sure`, not by all at once."""
        if sure:
            self._doubted = True
            self._due.set()
        else:
            asyncio.get_running_loop().call_later(random.uniform(0, SPREAD), self._doubt, True)  # noqa: S311

    async def _run(self) -> None:
        pauses = backoff(FIRST_PAUSE, LAST_PAUSE, random.random)
        while True:
            try:
                done = await self._round()
            except Exception as error:  # noqa: BLE001 - a defect of ours is said, but must not end the upkeep
                log.critical("unforeseen, while keeping records: %r", error)
                done = False
            if done:
                pauses = backoff(FIRST_PAUSE, LAST_PAUSE, random.random)
            else:
                await asyncio.sleep(next(pauses))
                self._due.set()

    async def _round(self) -> bool:
        """Wait until something is due and do it; whether no more can be done for now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until_due()):
                await self._due.wait()
        self._due.clear()
        if self._doubted or time.monotonic() >= self._next_audit():
            self._audited = time.monotonic()
            if await self._audit():
                self._doubted = False
        return await self._catch_up() and not self._doubted

    def _until_due(self) -> float:
        """Seconds until the next audit, or until what was refused is tried again."""
        again = [record.again for record in (*self._unwritten(), *self._leaving.values()) if record.refusal]
        return max(0.0, min([self._next_audit(), *again]) - time.monotonic())

    def _next_audit(self) -> float:
        """Sooner while another life has a record of ours: when that ends, its lease runs out, and ours is due."""
        waiting = any(record.superseded for record in self._records.values())
        every = min(self._audit_every, self._keeper.ttl) if waiting else self._audit_every
        return self._audited + every * self._spread

    def _unwritten(self) -> list[Record]:
        return [record for record in self._records.values() if record.waits(self._keeper.lease)]

    async def _catch_up(self) -> bool:
        """Write and delete what is still to be; whether all of it succeeded, or was refused."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def tried(step: Callable[[Record], Awaitable[None]], record: Record) -> RegistryError | None:
            async with slots:
                try:
                    await step(record)
                except RegistryError as error:
                    return error
                return None

        steps = [(self._write, record) for record in self._unwritten()]
        steps += [(self._delete, record) for record in self._leaving.values()]
        outcomes = [record.refusal for _, record in steps if record.put_off]
        outcomes += await asyncio.gather(*(tried(step, record) for step, record in steps if not record.put_off))
        errors = [error for error in outcomes if error]
        self.last_error = str(errors[0]) if errors else None
        if errors and self._etcd.connected and self._keeper.lease:  # else it is said elsewhere why
            self._saying.say(
                "behind", logging.WARNING, "records that wait to be written: %d; %s", len(errors), errors[0]
            )
        elif not errors:
            self._saying.say("", logging.INFO, "no record waits to be written any more")
        return all(isinstance(error, REFUSALS) for error in errors)

    async def _audit(self) -> bool:
        """Compare with what etcd holds, and mark what is to be written and deleted. False: to be tried again soon."""
        before = {name: record.revision for name, record in self._records.items() if record.written}
        try:
            listed = await self._etcd.snapshot(self._prefix.encode())
        except RegistryError as error:
            self.last_error = str(error)
            return isinstance(error, REFUSALS)
        if self._cluster not in {0, listed.cluster_id} or listed.revision < max(before.values(), default=0):
            for record in self._records.values():
                record.forget_revision()
        self._cluster = listed.cluster_id
        found = {item.key: item for item in listed.items}
        records = self._records.items()
        missing = sum(record.compare(found.get(self._key(record)), before.get(name)) for name, record in records)
        if repairs := missing + self._mark_strays(listed):
            self.repairs += repairs
            log.warning("%d records differed from what this host holds: put right", repairs)
        return True

    def _mark_strays(self, listed: Snapshot) -> int:
        """Have deleted what this process wrote and nobody wants any more; how many records."""
        known = {self._key(record) for record in (*self._records.values(), *self._leaving.values())}
        strays = [item for item in listed.items if item.key not in known and self._is_ours(item)]
        for item in strays:
            record = Record(instance := decode_record(item.key, item.value, self._prefix), instance.id, item.revision)
            self._leaving.setdefault(record.name, record)
        return len(strays)

    def _key(self, record: Record) -> bytes:
        return record_key(record.wanted.service, record.id, self._prefix).encode()
