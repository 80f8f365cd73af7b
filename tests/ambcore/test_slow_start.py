"""Slow start: who is starting, with which weight, and when that changes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ambcore.model import MAX_WEIGHT, Address, Instance, Readiness
from ambcore.slow_start import STEP, SlowStart

NOBODY: frozenset[str] = frozenset()


def instance(name: str, weight: int = 1, port: int = 80) -> Instance:
    return Instance("s", name, Address("10.0.0.1", port + ord(name)), weight=weight)


A, B, C = map(instance, "abc")


def weights(start: SlowStart, now: float, *items: Instance, ill: str = "") -> list[int]:
    return [item.weight for item in start.eased(items, frozenset(ill), now)]


def test_whoever_was_there_before_us_has_its_whole_weight() -> None:
    start = SlowStart(30)
    assert start.eased((A, B), NOBODY, 100.0) == (A, B)
    assert start.rest(100.0) is None


def test_a_new_instance_grows_from_a_tenth_to_all_of_its_weight_in_even_steps() -> None:
    start = SlowStart(9)
    weights(start, 0.0, A, B)
    seen = [weights(start, 10.0 + second, A, B, C) for second in range(10)]
    assert seen == [[10, 10, tenths] for tenths in range(1, 10)] + [[1, 1, 1]]
    assert start.share(C, 19.0) == 1


def test_an_instance_that_comes_back_from_being_ill_starts_anew() -> None:
    start = SlowStart(9)
    weights(start, 0.0, A, B)
    assert weights(start, 1.0, A, B, ill="b") == [1, 1]
    assert weights(start, 50.0, A, B) == [10, 1]
    assert weights(start, 54.0, A, B, ill="b") == [1, 1], "ill again: nobody is starting"
    assert weights(start, 60.0, A, B) == [10, 1]


def test_one_that_is_gone_and_one_at_another_address_are_new_when_they_come() -> None:
    start = SlowStart(9)
    weights(start, 0.0, A, B)
    weights(start, 1.0, A)
    assert weights(start, 2.0, A, B) == [10, 1]
    assert weights(start, 50.0, A, B) == [1, 1]
    assert weights(start, 51.0, A, instance("b", port=90)) == [10, 1]


def test_a_drained_instance_that_returns_has_not_just_come() -> None:
    start = SlowStart(9)
    drained = Instance("s", "b", B.address, readiness=Readiness.DRAINING)
    weights(start, 0.0, A, drained)
    assert start.eased((A, B), NOBODY, 1.0) == (A, B)


def test_without_a_duration_nothing_is_eased() -> None:
    start = SlowStart(0)
    assert start.eased((A,), NOBODY, 0.0) == (A,)
    assert start.eased((A, B), NOBODY, 1.0) == (A, B)


def test_heavy_weights_stay_within_what_a_weight_may_be() -> None:
    start = SlowStart(9)
    heavy, heavy_too = instance("a", 200), instance("b", 200)
    weights(start, 0.0, heavy)
    assert weights(start, 1.0, heavy, heavy_too) == [200, 20]
    light, light_too = instance("a", 25), instance("b", 5)
    other = SlowStart(9)
    weights(other, 0.0, light)
    assert weights(other, 1.0, light, light_too) == [250, 5]


def test_what_did_not_change_is_the_same_object() -> None:
    """Of 10,000 instances few change, and whoever is given them looks closer at those alone."""
    start = SlowStart(9)
    start.eased((A, B), NOBODY, 0.0)
    one = start.eased((A, B, C), NOBODY, 10.0)
    two = start.eased((A, B, C), NOBODY, 11.0)
    assert [before is after for before, after in zip(one, two, strict=True)] == [True, True, False]
    assert start.eased((A, B, C), NOBODY, 60.0)[0] is A


@given(
    st.floats(0.5, 600),
    st.lists(st.tuples(st.floats(0.0, 50.0), st.sets(st.sampled_from("abc"))), min_size=1, max_size=20),
)
def test_weights_are_weights_and_every_start_ends(seconds: float, looks: list[tuple[float, set[str]]]) -> None:
    start, now, items = SlowStart(seconds), 0.0, (A, B, C)
    for (passed, here), ill in zip(looks, itertools.cycle([NOBODY, frozenset("a")]), strict=False):
        now += passed
        eased = start.eased(tuple(item for item in items if item.id in here), ill, now)
        assert [item.id for item in eased] == [item.id for item in items if item.id in here]
        assert all(1 <= item.weight <= MAX_WEIGHT for item in eased)
        rest = start.rest(now)
        assert rest is None or STEP <= rest <= max(STEP, seconds)
    came = now
    start.eased(items, NOBODY, now)
    while (rest := start.rest(now)) is not None:
        now += rest
        start.eased(items, NOBODY, now)
        assert now <= came + seconds + STEP
    assert start.eased(items, NOBODY, now) == items
