"""Instances' metrics: bounded in number, and no counter ever goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ambnet.relay.protocol import InstanceStats
from dynproxy.series import OTHERS, Key, Series


def numbers(**totals: int) -> dict[Key, InstanceStats]:
    """Instances of one service, each with so many connections so far, one of them open."""
    return {("redis-A", name): InstanceStats(connections=1, connections_total=total) for name, total in totals.items()}


def test_as_many_as_there_is_room_for_have_series_of_their_own_and_the_rest_are_a_sum() -> None:
    shown = Series(most=2).take(numbers(a=1, b=2, c=3, d=4))
    assert {name: (item.connections, item.connections_total) for (_, name), item in shown.items()} == {
        "a": (1, 1),
        "b": (1, 2),
        OTHERS: (2, 7),
    }


def test_what_the_others_counted_stays_when_they_go_and_what_they_had_open_does_not() -> None:
    series = Series(most=1)
    series.take(numbers(a=1, b=10))
    shown = series.take(numbers(a=1))
    assert shown["redis-A", OTHERS] == InstanceStats(connections=0, connections_total=10)


def test_a_place_that_becomes_free_goes_to_a_newcomer() -> None:
    """One that was among the others is in their sum, and is not counted a second time."""
    series = Series(most=1)
    series.take(numbers(a=1, b=10))
    shown = series.take(numbers(b=12, c=3))
    assert {name: item.connections_total for (_, name), item in shown.items()} == {"c": 3, OTHERS: 12}


changes = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5), max_size=6), max_size=20)


@given(changes)
def test_nothing_is_lost_nothing_counted_twice_and_no_sum_goes_back(steps: list[dict[str, int]]) -> None:
    """Instances come, count and go; what their series say adds up to what they counted while they were looked at."""
    series, totals, last = Series(most=2), dict[str, int](), 0.0
    for step in steps:
        totals = {name: totals.get(name, 0) + more for name, more in step.items()}
        shown = series.take(numbers(**totals))
        assert len([name for _, name in shown if name != OTHERS]) <= 2
        others = shown.get(("redis-A", OTHERS), InstanceStats()).connections_total
        assert others >= last
        last = others
        own = {name for _, name in shown} - {OTHERS}
        assert all(shown["redis-A", name].connections_total == totals[name] for name in own)
        assert sum(item.connections for item in shown.values()) == len(totals)
        assert others >= sum(total for name, total in totals.items() if name not in own)
