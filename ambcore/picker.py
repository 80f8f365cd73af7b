"""Balancing policies: whom to ask first, and whom next if that one does not answer.

A policy is one function and one line in `POLICIES`. It names the first candidate; the others follow around the ring,
so that a failed candidate costs no second question.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, Protocol, TypeVar


class Weighted(Protocol):
    """What a policy has to know of an endpoint."""

    @property
    def id(self) -> str:
        """Its name, unique in the ring."""

    @property
    def weight(self) -> int:
        """Its share of new connections, at least 1."""


W = TypeVar("W", bound=Weighted)


class Ask(NamedTuple):
    """What one new connection brings along.

    `turn` counts connections from 0, `chance` is uniform in [0, 1), `source` is the client's address without its
    port, `load` tells the open connections of an endpoint.
    """

    turn: int
    chance: float
    source: str
    load: Callable[[str], int]


class Ring(Generic[W]):
    """Endpoints prepared for picking: built once a table, asked once a connection."""

    __slots__ = ("endpoints", "marks", "stride", "total")

    def __init__(self, endpoints: Sequence[W]) -> None:
        self.endpoints = tuple(endpoints)
        self.marks = tuple(accumulate(endpoint.weight for endpoint in self.endpoints))
        self.total = self.marks[-1] if self.marks else 0
        self.stride = _stride(self.total) if any(endpoint.weight != 1 for endpoint in endpoints) else 1

    def at(self, ticket: int) -> int:
        """The index whose share of the total weight holds `ticket`, 0 <= ticket < total."""
        return bisect_right(self.marks, ticket)


def _stride(total: int) -> int:
    """A step through the shares that visits each once and spreads a heavy endpoint's turns evenly.

    Coprime to the total, so every ticket comes up once a round; near the golden section, which keeps neighbours apart.
    """
    step = max(1, round(total * 0.618034))
    while math.gcd(step, total) != 1:
        step += 1
    return step


Policy = Callable[[Ring[W], Ask], int]


def round_robin(ring: Ring[W], ask: Ask) -> int:
    """In turn, each as often as its weight says within one round."""
    return ring.at(ask.turn * ring.stride % ring.total)


def random(ring: Ring[W], ask: Ask) -> int:
    """By lot, weights honoured: no pattern for a client to fall in step with."""
    return ring.at(int(ask.chance * ring.total))


def least_connections(ring: Ring[W], ask: Ask) -> int:
    """The fewest open connections for its weight; among equals in turn, so that idle ones are used evenly."""
    count = len(ring.endpoints)

    def burden(index: int) -> tuple[float, int]:
        endpoint = ring.endpoints[index]
        return (ask.load(endpoint.id) + 1) / endpoint.weight, (index - ask.turn) % count

    return min(range(count), key=burden)


def source_hash(ring: Ring[W], ask: Ask) -> int:
    """One client, one endpoint, whatever the others do (weighted rendezvous hashing, Thaler and Ravishankar 1998).

    When an endpoint goes only its own clients move. Linear in the ring, about a microsecond an endpoint.
    """
    source = zlib.crc32(ask.source.encode())

    def score(index: int) -> float:
        endpoint = ring.endpoints[index]
        lot = _spread(source, zlib.crc32(endpoint.id.encode()))
        return -endpoint.weight / math.log((lot + 1) / (2**64 + 1))

    return max(range(len(ring.endpoints)), key=score)


def _spread(one: int, other: int) -> int:
    """64 bits that look drawn by lot, from two of 32: the finaliser of splitmix64 (Steele, Lea and Flood 2014).

    hashlib would do, and cost every worker 3.7 MiB for OpenSSL.
    """
    mixed = one << 32 | other
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 31


POLICIES: Mapping[str, Policy[Weighted]] = {
    "round-robin": round_robin,
    "random": random,
    "least-connections": least_connections,
    "source-hash": source_hash,
}


def candidates(policy: Policy[W], ring: Ring[W], ask: Ask) -> Iterator[W]:
    """Every endpoint once, the policy's choice first. Nothing for an empty ring."""
    if not ring.endpoints:
        return
    first = policy(ring, ask)
    yield ring.endpoints[first]  # seldom is more asked for: no copy of a large ring for that
    yield from ring.endpoints[first + 1 :]
    yield from ring.endpoints[:first]
