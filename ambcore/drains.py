"""What operators drained, as one immutable value: markers folded in, and laid over a service's instances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from ambcore.errors import RecordError
from ambcore.fleet import DEFAULT_FLEET, Drain, decode_drain, drain_key
from ambcore.history import KeyDeleted, Listed, Message
from ambcore.model import Instance, Readiness

MAX_DRAINS = 10_000  # what a writer gone wild may cost a reader


@dataclass(frozen=True, slots=True)
class Drains:
    """Every marker by its key; `refused` says why of each key that is no marker's."""

    markers: Mapping[bytes, Drain] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[bytes, str] = field(default_factory=lambda: MappingProxyType({}))
    _instances: Mapping[tuple[str, str], Drain] = field(init=False, repr=False, compare=False)
    _hosts: Mapping[str, Drain] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        each = self.markers.values()
        object.__setattr__(self, "_instances", {(one.service, one.instance): one for one in each if not one.host})
        object.__setattr__(self, "_hosts", {one.host: one for one in each if one.host})

    @classmethod
    def of(cls, markers: Iterable[Drain]) -> Self:
        """These; of two for the same the later counts."""
        return cls(MappingProxyType({drain_key(marker).encode(): marker for marker in markers}))

    def __iter__(self) -> Iterator[Drain]:
        return iter(sorted(self.markers.values()))

    def __len__(self) -> int:
        return len(self.markers)

    def hitting(self, instance: Instance) -> Drain | None:
        """The marker by which an instance is drained, its own before its host's; None if nobody marked it."""
        if own := self._instances.get((instance.service, instance.id)):
            return own
        return next((self._hosts[host] for host in hosts_of(instance) if host in self._hosts), None)

    def over(self, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        """The instances as operators want them: those that are marked drain; all others are the same objects."""
        if not self.markers:
            return instances
        return tuple(
            replace(item, readiness=Readiness.DRAINING) if item.takes_new and self.hitting(item) else item
            for item in instances
        )


def hosts_of(instance: Instance) -> tuple[str, ...]:
    """The names by which an operator may mean an instance's host: its address; its owner, and that without the id of
    the host's Docker engine; where nobody owns it, the host that registrator put into the id `host:container:port`.
    """
    names = [instance.address.host]
    if instance.owner:
        names += [instance.owner, instance.owner.partition(":")[0]]
    elif instance.id.count(":") >= 2:
        names.append(instance.id.partition(":")[0])
    return tuple(dict.fromkeys(name for name in names if name))


def fold(drains: Drains, message: Message, fleet: str = DEFAULT_FLEET) -> Drains:
    """The markers after a message. A key that is no marker's is refused, and changes none."""
    listed = isinstance(message, Listed)
    markers = {} if listed else dict(drains.markers)
    refused = {} if listed else dict(drains.refused)
    for event in message.items if isinstance(message, Listed) else message.events:
        refused.pop(event.key, None)
        if isinstance(event, KeyDeleted):
            markers.pop(event.key, None)
            continue
        try:
            marker = decode_drain(event.key, event.value, fleet)
            _check_room(event.key, markers)
            markers[event.key] = marker
        except RecordError as error:
            refused[event.key] = str(error)
    return Drains(MappingProxyType(markers), MappingProxyType(refused))


def _check_room(key: bytes, markers: Mapping[bytes, Drain]) -> None:
    if key not in markers and len(markers) >= MAX_DRAINS:
        raise RecordError("too_many", f"there are {len(markers)} markers already")


def hit_by(marker: Drain, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Those that a marker is of."""
    alone = Drains.of([marker])
    return tuple(item for item in instances if alone.hitting(item))


def emptied(instances: Iterable[Instance], before: Drains, after: Drains) -> tuple[str, ...]:
    """The services with an instance that takes new connections before, and none after; sorted."""
    every = tuple(instances)
    had, has = ({item.service for item in each.over(every) if item.takes_new} for each in (before, after))
    return tuple(sorted(had - has))
