"""Balancing policies."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.picker import POLICIES, Ask, Ring, Weighted, candidates


@dataclass(frozen=True)
class Endpoint:
    id: str
    weight: int = 1


def asks(count: int, source: str = "10.0.0.1", load: dict[str, int] | None = None) -> list[Ask]:
    lots = random.Random(1)
    return [
        Ask(turn, lots.random(), source, (load or {}).__getitem__ if load else lambda _: 0) for turn in range(count)
    ]


def first(policy: str, ring: Ring[Weighted], ask: Ask) -> str:
    return next(candidates(POLICIES[policy], ring, ask)).id


def ring_of(**weights: int) -> Ring[Weighted]:
    return Ring([Endpoint(name, weight) for name, weight in weights.items()])


rings = st.lists(st.integers(1, 256), min_size=1, max_size=30).map(
    lambda weights: Ring[Weighted]([Endpoint(str(number), weight) for number, weight in enumerate(weights)])
)


@given(rings, st.sampled_from(sorted(POLICIES)), st.integers(0, 10**9), st.floats(0, 1, exclude_max=True), st.text())
def test_every_policy_names_every_endpoint_exactly_once(
    ring: Ring[Weighted], policy: str, turn: int, chance: float, source: str
) -> None:
    got = list(candidates(POLICIES[policy], ring, Ask(turn, chance, source, lambda _: 0)))
    assert sorted(one.id for one in got) == sorted(one.id for one in ring.endpoints)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_an_empty_ring_has_no_candidates(policy: str) -> None:
    assert list(candidates(POLICIES[policy], Ring[Weighted]([]), asks(1)[0])) == []


@given(rings, st.integers(0, 10**6))
def test_round_robin_gives_each_its_weight_in_every_round(ring: Ring[Weighted], start: int) -> None:
    turns = range(start * ring.total, (start + 1) * ring.total)
    got = Counter(first("round-robin", ring, Ask(turn, 0.0, "", lambda _: 0)) for turn in turns)
    assert got == {endpoint.id: endpoint.weight for endpoint in ring.endpoints}


def test_round_robin_spreads_a_heavy_endpoint_s_turns() -> None:
    """Three to one is aaba, not a burst of a after each b: no light endpoint waits a whole round in a row."""
    ring = ring_of(a=5, b=1, c=1)
    order = "".join(first("round-robin", ring, ask) for ask in asks(70))
    assert "aaaaa" not in order


def test_random_honours_weights() -> None:
    ring = ring_of(a=3, b=1)
    got = Counter(first("random", ring, ask) for ask in asks(4000))
    assert got["a"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_least_connections_takes_the_emptiest_for_its_weight() -> None:
    assert {first("least-connections", ring_of(a=1, b=1), ask) for ask in asks(5, load={"a": 3, "b": 2})} == {"b"}
    assert {first("least-connections", ring_of(a=4, b=1), ask) for ask in asks(5, load={"a": 3, "b": 1})} == {"a"}


def test_least_connections_takes_turns_among_equals() -> None:
    ring = ring_of(a=1, b=1, c=1)
    assert Counter(first("least-connections", ring, ask) for ask in asks(9)) == {"a": 3, "b": 3, "c": 3}


def test_source_hash_keeps_a_client_with_its_endpoint() -> None:
    ring = ring_of(a=1, b=1, c=1)
    for source in ("10.0.0.1", "10.0.0.2", "2001:db8::1"):
        assert len({first("source-hash", ring, ask) for ask in asks(20, source)}) == 1


def test_source_hash_moves_only_the_clients_of_an_endpoint_that_went() -> None:
    whole, rest = ring_of(a=1, b=1, c=1), ring_of(a=1, c=1)
    for number in range(300):
        ask = Ask(0, 0.0, f"10.0.{number // 256}.{number % 256}", lambda _: 0)
        before = first("source-hash", whole, ask)
        assert before == "b" or first("source-hash", rest, ask) == before


def test_source_hash_honours_weights() -> None:
    ring = ring_of(a=3, b=1)
    got = Counter(
        first("source-hash", ring, Ask(0, 0.0, f"10.{n % 7}.{n // 256}.{n % 256}", lambda _: 0)) for n in range(4000)
    )
    assert got["a"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_source_hash_is_the_same_in_every_process() -> None:
    """Workers and a second proxy must agree, so no seed of the process may enter: these are values, written down."""
    ring = ring_of(a=1, b=1, c=1)
    assert [first("source-hash", ring, Ask(0, 0.0, f"10.0.0.{n}", lambda _: 0)) for n in range(8)] == list("ccbacabc")
