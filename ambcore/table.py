"""The live table: every service with its instances, as one immutable value.

It is replaced as a whole, in one assignment; readers never see half a change. "Nothing known yet" is not an empty
table: until the first list arrived there is no table at all.

The text form, one line an instance, is for people and tests:

    redis-A/redis-demo.service 10.132.181.182:49155 up
    redis-A/redis-2 [2001:db8::7]:6379 draining weight=3
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        keyed = {(item.service, item.id): item for item in instances}
        services: dict[str, list[Instance]] = {}
        for key in sorted(keyed):
            services.setdefault(key[0], []).append(keyed[key])
        return cls(MappingProxyType({name: tuple(members) for name, members in services.items()}))

    def instances(self, service: str) -> tuple[Instance, ...]:
        """The instances of a service; an empty tuple if it has none."""
        return self.services.get(service, ())

    def find(self, service: str, name: str) -> Instance | None:
        """The instance of a service with this id, if there is one."""
        members = self.instances(service)
        place = bisect_left(members, name, key=lambda instance: instance.id)
        return members[place] if place < len(members) and members[place].id == name else None

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
    Cost is linear in the services that the message speaks of, once however many events it carries.
    """
    listed = isinstance(message, Listed)
    services = {} if listed else dict(table.services)
    after: dict[str, dict[str, Instance]] = {}

    def members(service: str) -> dict[str, Instance]:
        """The instances of a service by id, as they are after the events so far."""
        if service not in after:
            after[service] = _by_id(services.get(service, ()))
        return after[service]

    refused: list[Rejection] = []
    for event in _known_first(message.items, table, reader) if isinstance(message, Listed) else message.events:
        if isinstance(event, KeyDeleted):
            service, name = _key_or_none(event.key, reader.prefix)
            members(service).pop(name, None)
            continue
        try:
            instance = reader.read(event)
            group = members(instance.service)
            if instance.id not in group:
                reader.check_room(instance, len(group))
            group[instance.id] = instance
        except RecordError as error:
            service, name = _key_or_none(event.key, reader.prefix)
            group = members(service)
            if listed and name not in group and (stays := table.find(service, name)):
                group[name] = stays
            refused.append(Rejection(event.key, error, kept=name in group))
    services |= {service: tuple(group[name] for name in sorted(group)) for service, group in after.items()}
    peopled = {service: services[service] for service in sorted(services) if services[service]}
    return Table(MappingProxyType(peopled)), tuple(refused)


def _known_first(items: Sequence[KeyValue], table: Table, reader: Reader) -> Sequence[KeyValue]:
    """The items; where one service could have too many, those of known instances first: a flood crowds out nobody."""
    if len(items) <= reader.most:
        return items
    return sorted(items, key=lambda item: table.find(*_key_or_none(item.key, reader.prefix)) is None)


def _by_id(instances: Iterable[Instance]) -> dict[str, Instance]:
    return {instance.id: instance for instance in instances}


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
    names = sorted(old.services.keys() | new.services.keys())
    parts = [_diff(old.instances(name), new.instances(name)) for name in names]
    return Diff(
        added=tuple(item for part in parts for item in part.added),
        removed=tuple(item for part in parts for item in part.removed),
        changed=tuple(pair for part in parts for pair in part.changed),
    )


def _diff(old: tuple[Instance, ...], new: tuple[Instance, ...]) -> Diff:
    """What changed in one service. Those that stay are the same objects mostly, which is sooner seen than equality."""
    was, now = _by_id(old), _by_id(new)
    kept = [(was[name], item) for name, item in now.items() if name in was and was[name] is not item]
    return Diff(
        added=tuple(item for name, item in now.items() if name not in was),
        removed=tuple(item for name, item in was.items() if name not in now),
        changed=tuple(pair for pair in kept if pair[0] != pair[1]),
    )
