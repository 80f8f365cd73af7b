"""From instances to the kernel's slots: which number an endpoint has, and which slots are its own. Pure.

Both remember: an endpoint keeps its number, and one that comes or goes moves as few slots as it can. So a change is as
small in the kernel as it is in the world, be it one of ten instances or one of ten thousand.
"""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ambcore.model import Address
from dynproxy.ruleset import MAX_ENDPOINT, NOBODY, Front, Port, Ruleset

MAX_SLOTS = 16_384  # of a front whose weights differ; then 1:256 among a thousand is rounded a little
# Sizes of a hashed front's table, primes: at least ten slots for an endpoint up to a thousand of them, at least six for
# ten thousand. It changes with the number of endpoints only at these steps.
HASHED = ((100, 1021), (1000, 10_007), (10**9, 65_521))


@dataclass(frozen=True, slots=True)
class Want:
    """What a front shall do: its policy, and each address with its weight."""

    policy: str
    targets: Mapping[Address, int]


class Numbers:
    """Which number each endpoint of each port has. A number that is given up comes back last of all.

    `first` is where counting starts. A process that goes on from what is held begins anywhere, for it does not know
    which number was given up just before.
    """

    def __init__(self, held: Ruleset, first: int = 1) -> None:
        self._known = {
            port: {held.endpoints[endpoint]: endpoint for endpoint in front.ring} for port, front in held.fronts.items()
        }
        self._taken = {endpoint for known in self._known.values() for endpoint in known.values()}
        self._next = first

    def shares(self, port: Port, targets: Mapping[Address, int]) -> dict[int, int]:
        """Each endpoint's weight by its number, in the targets' order; a new one gets a number."""
        known = self._known.setdefault(port, {})
        return {known.get(address) or self.of(port, address): weight for address, weight in targets.items()}

    def of(self, port: Port, address: Address) -> int:
        """The endpoint's number, a new one if need be."""
        known = self._known.setdefault(port, {})
        if address not in known:
            while self._next in self._taken or self._next > MAX_ENDPOINT:
                self._next = self._next + 1 if self._next < MAX_ENDPOINT else 1
            known[address] = self._next
            self._taken.add(self._next)
            self._next += 1
        return known[address]

    def known(self, port: Port, addresses: Iterable[Address]) -> frozenset[int]:
        """The numbers of those endpoints that have one."""
        known = self._known.get(port, {})
        return frozenset(known[address] for address in addresses if address in known)

    def forget(self, port: Port, addresses: Iterable[Address]) -> None:
        """Give up the numbers of endpoints that are gone."""
        known = self._known.get(port, {})
        for address in addresses:
            self._taken.discard(known.pop(address, 0))


def planned(held: Ruleset, wants: Mapping[Port, Want], numbers: Numbers) -> Ruleset:
    """The ruleset that does what is wanted. A port that nothing is said of stays as it is held."""
    fronts = dict(held.fronts)
    endpoints = dict(held.endpoints)
    for port, want in wants.items():
        shares = numbers.shares(port, want.targets)
        addresses = dict(zip(shares, want.targets, strict=True))
        before = held.fronts.get(port, NOBODY)
        for endpoint in set(before.ring).difference(shares):
            del endpoints[endpoint]
        endpoints.update(addresses)
        slots = hashed(addresses, shares) if want.policy == "source-hash" else in_turn(before.slots, shares)
        fronts[port] = Front(want.policy, slots, _start(before, want.policy, len(slots)))
    return replace(held, fronts=fronts, endpoints=endpoints)


def _start(before: Front, policy: str, count: int) -> int:
    """Where round robin begins: elsewhere after each change of the number of slots, lest the first get everything."""
    if policy != "round-robin" or not before.slots or not count:
        return 0
    if (policy, count) == (before.policy, len(before.slots)):
        return before.start
    return (before.start + max(1, round(count * 0.381966))) % count


def in_turn(before: Sequence[int], shares: Mapping[int, int]) -> tuple[int, ...]:
    """Slots to be drawn in turn or by lot: each endpoint as often as its weight says, evenly spread.

    Where all weights are equal, who stays keeps its slot, and the last ones move into the gaps of those who left.
    """
    if len(set(shares.values())) > 1:
        return _spread(_scaled(shares))
    slots = [endpoint if endpoint in shares else 0 for endpoint in dict.fromkeys(before)]
    present = set(slots)
    come = [endpoint for endpoint in shares if endpoint not in present]
    gaps = [place for place, endpoint in enumerate(slots) if not endpoint]
    for place, endpoint in zip(gaps, come, strict=False):
        slots[place] = endpoint
    slots += come[len(gaps) :]
    for place in reversed(gaps[len(come) :]):
        last = slots.pop()
        if place < len(slots):
            slots[place] = last
    return tuple(slots)


def _scaled(shares: Mapping[int, int]) -> dict[int, int]:
    """The weights in lowest terms, and no more slots than the kernel shall have to hold."""
    factor = 1 / math.gcd(*shares.values())
    if (total := sum(shares.values()) * factor) > MAX_SLOTS:
        factor *= MAX_SLOTS / total
    return {endpoint: max(1, round(weight * factor)) for endpoint, weight in shares.items()}


def _spread(shares: Mapping[int, int]) -> tuple[int, ...]:
    """The slots of each endpoint apart from each other: every turn stands at its due time in the round.

    Those of one weight share their turns in rotation. Each alone, all the light ones would be due at the same moment.
    """
    classes: dict[int, list[int]] = {}
    for endpoint, weight in sorted(shares.items()):
        classes.setdefault(weight, []).append(endpoint)
    turns = (
        ((turn + 0.5) / (weight * len(endpoints)), endpoints[turn % len(endpoints)])
        for weight, endpoints in classes.items()
        for turn in range(weight * len(endpoints))
    )
    return tuple(endpoint for _, endpoint in sorted(turns))


def hashed(addresses: Mapping[int, Address], shares: Mapping[int, int]) -> tuple[int, ...]:
    """Slots to be drawn by the client's hash: the same in every proxy, and one endpoint's going moves few clients.

    The lookup table of Maglev (Eisenbud and others, 2016): each endpoint has its own order of preference over the
    slots, and they take turns, as often as their weights say, in taking the next one that is free.
    """
    if not shares:
        return ()
    size = next(size for most, size in HASHED if len(shares) <= most)
    slots = [0] * size
    preferences = {endpoint: _preferences(address, size) for endpoint, address in addresses.items()}
    for endpoint in itertools.islice(_turns(sorted(shares, key=addresses.__getitem__), shares), size):
        slots[next(place for place in preferences[endpoint] if not slots[place])] = endpoint
    return tuple(slots)


def _turns(endpoints: Sequence[int], shares: Mapping[int, int]) -> Iterator[int]:
    """Whose turn it is, without end: first each once, however light it is, then each in proportion to its weight."""
    if len(set(shares.values())) == 1:
        return itertools.cycle(endpoints)  # the same order, for a fraction of the time
    due = (_due(place, shares[endpoint]) for place, endpoint in enumerate(endpoints))
    return (endpoints[place] for _, place in heapq.merge(*due))


def _due(place: int, weight: int) -> Iterator[tuple[float, int]]:
    yield 0.0, place
    for turn in itertools.count(1):
        yield (turn + 0.5) / weight, place


def _preferences(address: Address, size: int) -> Iterator[int]:
    """Every slot once, in an order of the address's own."""
    name = str(address).encode()
    first = zlib.crc32(name) % size
    step = zlib.crc32(b"step " + name) % (size - 1) + 1
    return ((first + turn * step) % size for turn in range(size))
