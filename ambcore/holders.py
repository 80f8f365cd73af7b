"""Which instances stand behind an address: two services may name the same one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ambcore.model import Address, Instance


@dataclass(frozen=True, slots=True)
class Move:
    """What a service's new instances changed: who came and went, and which addresses are new or nobody's now."""

    arrived: tuple[Instance, ...]
    departed: tuple[Instance, ...]
    new: tuple[Address, ...]
    gone: tuple[Address, ...]


class Holders:
    """Every address once, in the order in which they came, with those of its instances that are `wanted`.

    An address costs a dictionary's entry: nearly all have one instance, which is then kept bare. A change costs what
    has changed, and a comparison of identities for the rest.
    """

    __slots__ = ("_at", "_services", "_wanted")

    def __init__(self, wanted: Callable[[Instance], bool]) -> None:
        self._wanted = wanted
        self._at: dict[Address, Instance | tuple[Instance, ...]] = {}
        self._services: dict[str, tuple[Instance, ...]] = {}

    def __iter__(self) -> Iterator[Address]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, address: Address) -> bool:
        return address in self._at

    def of(self, service: str) -> tuple[Instance, ...]:
        """The service's instances as they were last given, unwanted ones among them."""
        return self._services.get(service, ())

    def at(self, address: Address) -> tuple[Instance, ...]:
        """The instances of an address; none if nobody holds it."""
        found = self._at.get(address, ())
        return found if isinstance(found, tuple) else (found,)

    def replace(self, service: str, instances: tuple[Instance, ...]) -> Move:
        """Make these a service's instances; whole state, never a difference."""
        before = self.of(service)
        if instances:
            self._services[service] = instances
        else:
            self._services.pop(service, None)
        departed, arrived = (tuple(filter(self._wanted, side)) for side in differing(before, instances))
        # Those that come first: an address whose record was only rewritten is never nobody's.
        new = tuple(item.address for item in arrived if self._add(item))
        gone = tuple(item.address for item in departed if self._remove(item))
        return Move(arrived, departed, new, gone)

    def _add(self, item: Instance) -> bool:
        """True if the address is new."""
        others = self.at(item.address)
        self._at[item.address] = (*others, item) if others else item
        return not others

    def _remove(self, item: Instance) -> bool:
        """True if the address is nobody's now."""
        others = tuple(other for other in self.at(item.address) if other is not item)
        if not others:
            del self._at[item.address]
            return True
        self._at[item.address] = others if len(others) > 1 else others[0]
        return False


def differing(
    before: tuple[Instance, ...], after: tuple[Instance, ...]
) -> tuple[tuple[Instance, ...], tuple[Instance, ...]]:
    """Both without the part that they share at the start and at the end, and without what is the same object.

    The price of ten thousand that stay is a comparison of identities: nothing is hashed, nothing is made.
    """
    start = _shared(before, after)
    before, after = before[start:], after[start:]
    end = _shared(before[::-1], after[::-1])
    before, after = before[: len(before) - end], after[: len(after) - end]
    if not before or not after:
        return before, after
    old, new = set(map(id, before)), set(map(id, after))
    return tuple(item for item in before if id(item) not in new), tuple(item for item in after if id(item) not in old)


def _shared(before: tuple[Instance, ...], after: tuple[Instance, ...]) -> int:
    """The length of the start at which both hold the same objects."""
    same = enumerate(map(operator.is_, before, after))
    return next((index for index, yes in same if not yes), min(len(before), len(after)))
