"""The live table: every service with its instances, as one immutable value.

It is replaced as a whole, in one assignment; readers never see half a change. "Nothing known yet" is not an empty
table: until the first list arrived there is no table at all.

The text form, one line an instance, is for people and tests:

    redis-A/redis-demo.service 10.132.181.182:49155 up
    redis-A/redis-2 [2001:db8::7]:6379 draining weight=3
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from types import MappingProxyType
from typing import Self

from ambcore.admission import Admission
from ambcore.errors import RecordError
from ambcore.history import KeyDeleted, KeyValue, Listed, Message
from ambcore.model import Address, Instance, Protocol, Readiness
from ambcore.schema import DEFAULT_PREFIX, decode_record, split_key

InstanceKey = tuple[str, str]  # (service, instance id)
MAX_INSTANCES = 10_000  # of one service: what a writer gone wild may cost a reader


@dataclass(frozen=True, slots=True)
class Table:
    """Instances by service, each service's sorted by id. A service without instances has no entry."""

    services: Mapping[str, tuple[Instance, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> Self:
        """A table of these; of two with one (service, id) the later counts."""
        return cls.grouped({(item.service, item.id): item for item in instances})

    @classmethod
    def grouped(cls, instances: Mapping[InstanceKey, Instance]) -> Self:
        """A table of instances that are already under their (service, id)."""
        services: dict[str, list[Instance]] = {}
        for key in sorted(instances):
            services.setdefault(key[0], []).append(instances[key])
        return cls(MappingProxyType({name: tuple(members) for name, members in services.items()}))

    def instances(self, service: str) -> tuple[Instance, ...]:
        """The instances of a service; an empty tuple if it has none."""
        return self.services.get(service, ())

    def __iter__(self) -> Iterator[Instance]:
        for members in self.services.values():
            yield from members

    def __len__(self) -> int:
        return sum(map(len, self.services.values()))

    def __str__(self) -> str:
        return "".join(f"{_line(instance)}\n" for instance in self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str()`; raises ValueError naming the line.

        From a `#` that stands alone the rest of a line is a comment; within a word it is part of a name.
        """
        lines = (list(takewhile(lambda word: word != "#", line.split())) for line in text.splitlines())
        return cls.of(_instance(words) for words in lines if words)


def _line(instance: Instance) -> str:
    words = [f"{instance.service}/{instance.id}", str(instance.address), instance.readiness.value]
    if instance.protocol is not Protocol.TCP:
        words.append(instance.protocol.value)
    if instance.weight != 1:
        words.append(f"weight={instance.weight}")
    return " ".join(words)


def _instance(words: list[str]) -> Instance:
    try:
        path, address, readiness, *rest = words
        service, _, name = path.partition("/")
        protocol, weight = Protocol.TCP, 1
        for word in rest:
            if word.startswith("weight="):
                weight = int(word.removeprefix("weight="))
            else:
                protocol = Protocol(word)
        return Instance(service, name, Address.parse(address), protocol, weight, Readiness(readiness))
    except ValueError as error:
        raise ValueError(f"{' '.join(words)!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that was refused, and whether the last good one under its key still stands."""

    key: bytes
    error: RecordError
    kept: bool


@dataclass(frozen=True, slots=True)
class Reader:
    """How records become instances: under which prefix, which addresses are welcome, and how many a service has."""

    prefix: str = DEFAULT_PREFIX
    admission: Admission = field(default_factory=Admission)
    most: int = MAX_INSTANCES

    def read(self, item: KeyValue) -> Instance:
        """The instance of a record; raises RecordError."""
        instance = decode_record(item.key, item.value, self.prefix)
        self.admission.check(instance.address)
        return instance

    def check_room(self, instance: Instance, members: int) -> None:
        """Raises RecordError(`too_many`) if a service with so many instances takes no other."""
        if members >= self.most:
            raise RecordError("too_many", f"{instance.service} has {members} instances already")


def fold(table: Table, message: Message, reader: Reader) -> tuple[Table, tuple[Rejection, ...]]:
    """The table after a message, and what was refused on the way.

    A refused record changes nothing: the instance last read from its key stays, unless the key was deleted since.
    Cost is linear in the table, once a message however many events it carries.
    """
    before = {(item.service, item.id): item for item in table}
    after: dict[InstanceKey, Instance] = {} if isinstance(message, Listed) else dict(before)
    members = Counter(service for service, _ in after)
    refused: list[Rejection] = []
    for event in message.items if isinstance(message, Listed) else message.events:
        if isinstance(event, KeyDeleted):
            if gone := after.pop(_key_or_none(event.key, reader.prefix), None):
                members[gone.service] -= 1
            continue
        try:
            instance = reader.read(event)
            if (instance.service, instance.id) not in after:
                reader.check_room(instance, members[instance.service])
                members[instance.service] += 1
            after[instance.service, instance.id] = instance
        except RecordError as error:
            key = _key_or_none(event.key, reader.prefix)
            if isinstance(message, Listed) and key in before and key not in after:
                after[key] = before[key]
                members[key[0]] += 1
            refused.append(Rejection(event.key, error, kept=key in after))
    return Table.grouped(after), tuple(refused)


def _key_or_none(key: bytes, prefix: str) -> InstanceKey:
    """(service, id) of a key; a pair that no instance has when the key is not a record's."""
    try:
        return split_key(key, prefix)
    except RecordError:
        return "", ""


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from one table to the next. `changed` holds (old, new) of instances present in both."""

    added: tuple[Instance, ...] = ()
    removed: tuple[Instance, ...] = ()
    changed: tuple[tuple[Instance, Instance], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def diff(old: Table, new: Table) -> Diff:
    """What has to be done to a world that looks like `old` to make it look like `new`."""
    was = {(item.service, item.id): item for item in old}
    now = {(item.service, item.id): item for item in new}
    return Diff(
        added=tuple(item for key, item in now.items() if key not in was),
        removed=tuple(item for key, item in was.items() if key not in now),
        changed=tuple((was[key], item) for key, item in now.items() if key in was and was[key] != item),
    )
