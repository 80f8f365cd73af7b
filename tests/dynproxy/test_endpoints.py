"""Which slots are whose: shares as the weights say, spread out, and as few moves as there are changes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.model import MAX_WEIGHT, Address
from dynproxy.endpoints import Numbers, Want, hashed, in_turn, planned
from dynproxy.ruleset import MAX_ENDPOINT, Front, Port, Ruleset
from tests.support.random_rules import PORTS, address, empty, histories

PORT, OTHER = PORTS[:2]

endpoints = st.sets(st.integers(1, 60), max_size=30)
weights = st.dictionaries(st.integers(1, 60), st.integers(1, MAX_WEIGHT), min_size=1, max_size=30)


def addresses(shares: Mapping[int, int]) -> dict[int, Address]:
    return {endpoint: address("ip", endpoint) for endpoint in shares}


def plan(held: Ruleset, numbers: Numbers, targets: Mapping[Address, int], policy: str = "round-robin") -> Ruleset:
    return planned(held, {PORT: Want(policy, targets)}, numbers)


@given(weights)
def test_in_turn_each_has_its_share_exactly(shares: dict[int, int]) -> None:
    """For sums that fit: thirty instances of at most 256 always do."""
    slots = in_turn((), shares)
    counts = Counter(slots)
    assert counts.keys() == shares.keys()
    assert all(counts[one] * shares[two] == counts[two] * shares[one] for one in shares for two in shares)


@given(weights)
def test_in_turn_nobody_is_ahead_or_behind_by_more_than_a_few_turns(shares: dict[int, int]) -> None:
    """After any number of draws: one and a half, and its part of half a turn for each weight that there is."""
    slots = in_turn((), shares)
    distinct = len(set(shares.values()))
    counts = Counter(slots)
    so_far = Counter[int]()
    for drawn, endpoint in enumerate(slots, start=1):
        so_far[endpoint] += 1
        for each, count in counts.items():
            part = count / len(slots)
            assert abs(so_far[each] - drawn * part) <= 1.5 + distinct / 2 * part, (each, drawn)


def test_a_heavy_one_does_not_meet_itself_where_light_ones_could_stand_between() -> None:
    slots = in_turn((), {1: 4} | dict.fromkeys(range(2, 22), 1))
    places = [place for place, endpoint in enumerate(slots) if endpoint == 1]
    gaps = [(after - before) % len(slots) for before, after in zip(places, places[1:] + places[:1], strict=True)]
    assert sorted(gaps) == [6, 6, 6, 6]


@given(endpoints, endpoints)
def test_among_equals_as_few_slots_move_as_can(before: set[int], after: set[int]) -> None:
    """Who comes takes a slot, who leaves frees one, and only the table's end moves into what stays free."""
    old = in_turn((), dict.fromkeys(sorted(before), 1))
    new = in_turn(old, dict.fromkeys(sorted(after), 1))
    assert sorted(new) == sorted(after)
    written = sum(place >= len(old) or old[place] != endpoint for place, endpoint in enumerate(new))
    assert written <= max(len(after - before), len(before - after))


@given(weights)
def test_hashed_everybody_has_a_share_near_its_weight(shares: dict[int, int]) -> None:
    """However light, a slot of its own; else its part, give or take one slot and what rounding takes from all."""
    slots = hashed(addresses(shares), shares)
    counts, total = Counter(slots), sum(shares.values())
    assert counts.keys() == shares.keys()
    assert len(slots) == 1021
    for endpoint, weight in shares.items():
        fair = len(slots) * weight / total
        assert abs(counts[endpoint] - fair) <= 1 + fair * len(shares) / len(slots), endpoint


@pytest.mark.parametrize(("number", "size"), [(1, 1021), (100, 1021), (101, 10_007), (1000, 10_007), (1001, 65_521)])
def test_hashed_among_equals_shares_differ_by_one_slot_at_most(number: int, size: int) -> None:
    shares = dict.fromkeys(range(1, number + 1), 1)
    counts = Counter(hashed(addresses(shares), shares))
    assert sum(counts.values()) == size
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("number", [2, 3, 10, 50, 100, 1000])
def test_hashed_one_that_goes_moves_few_clients_of_others(number: int) -> None:
    """The share that must move is 1/n; of all others at most 6 in 100 do (the paper's figure 12 has like numbers)."""
    shares = dict.fromkeys(range(1, number + 1), 1)
    old = hashed(addresses(shares), shares)
    gone = number // 2 + 1
    del shares[gone]
    new = hashed(addresses(shares), shares)
    moved = sum(before not in (after, gone) for before, after in zip(old, new, strict=True))
    assert moved <= 0.06 * len(old)


@given(st.permutations(range(1, 13)))
def test_hashed_slots_depend_on_addresses_and_weights_alone(order: list[int]) -> None:
    """Not on the order of arrival, and not on the numbers, which differ from proxy to proxy."""
    by_address = {address("ip", place): place % 4 + 1 for place in range(12)}
    here = {number: address("ip", place) for place, number in enumerate(range(1, 13))}
    there = {number: address("ip", place) for place, number in enumerate(order)}
    shuffled = dict(sorted(there.items()))
    one = hashed(here, {number: by_address[at] for number, at in here.items()})
    two = hashed(shuffled, {number: by_address[at] for number, at in shuffled.items()})
    assert [here[number] for number in one] == [there[number] for number in two]


def test_hashed_slots_are_the_same_in_every_process() -> None:
    """Python's own hashes differ from process to process; two proxies must agree on a client's instance."""
    code = (
        "from dynproxy.endpoints import hashed; from ambcore.model import Address; import zlib;"
        "at = {n: Address(f'10.0.0.{n}', 80) for n in {3, 1, 2, 7}};"
        "print(zlib.crc32(repr(hashed(at, dict.fromkeys(at, 1))).encode()))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


@given(histories("ip", 8))
def test_a_plan_holds_exactly_what_is_wanted_through_every_history(history: list[Mapping[Port, Want]]) -> None:
    held = empty("ip")
    numbers = Numbers(held)
    wanted: dict[Port, Want] = {}
    for wants in history:
        held = planned(held, wants, numbers)
        wanted.update(wants)
        for port, want in wanted.items():
            front = held.fronts[port]
            assert {held.endpoints[number] for number in front.slots} == set(want.targets)
            assert front.policy == want.policy
        in_slots = [number for front in held.fronts.values() for number in front.ring]
        assert sorted(in_slots) == sorted(held.endpoints)  # each in one front only, and none besides


def test_an_endpoint_keeps_its_number_while_it_is_known() -> None:
    numbers = Numbers(empty("ip"))
    first = numbers.of(PORT, address("ip", 1))
    assert numbers.of(OTHER, address("ip", 1)) != first
    assert numbers.of(PORT, address("ip", 1)) == first


def test_a_number_given_up_comes_back_last_of_all() -> None:
    """Connections of the one that had it are still marked with it."""
    numbers = Numbers(empty("ip"))
    gone = numbers.of(PORT, address("ip", 1))
    numbers.forget(PORT, [address("ip", 1)])
    later = {numbers.of(PORT, address("ip", number)) for number in range(1000)}
    assert gone not in later
    assert len(later) == 1000


def test_after_the_last_number_the_first_free_one_follows() -> None:
    held = Ruleset(
        "ip",
        "t",
        None,
        {PORT: Front("random", (1, MAX_ENDPOINT))},
        {1: address("ip", 1), MAX_ENDPOINT: address("ip", 2)},
    )
    numbers = Numbers(held)
    assert [numbers.of(PORT, address("ip", number)) for number in (1, 2, 3, 4)] == [1, MAX_ENDPOINT, 2, 3]


def test_a_new_process_goes_on_with_the_numbers_it_finds() -> None:
    first = empty("ip")
    held = plan(first, Numbers(first), {address("ip", 1): 1, address("ip", 2): 1})
    again = plan(held, Numbers(held), {address("ip", 2): 1, address("ip", 3): 1})
    assert {number: at for number, at in again.endpoints.items() if at == address("ip", 2)} == {2: address("ip", 2)}
    assert again.fronts[PORT].slots == (3, 2)
