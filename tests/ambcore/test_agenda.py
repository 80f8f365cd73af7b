"""Who is due next, and how fast they may come."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.agenda import Agenda, Pace

steps = st.lists(st.tuples(st.sampled_from("pdo"), st.sampled_from("abc"), st.integers(0, 5)), max_size=30)


@given(steps)
def test_agenda_is_a_dictionary_of_due_times_that_gives_the_earliest(script: list[tuple[str, str, int]]) -> None:
    """`p`ut, `d`rop and p`o`p against the plainest thing that could do it."""
    agenda: Agenda[str] = Agenda()
    plain: dict[str, float] = {}
    for verb, item, time in script:
        if verb == "p":
            agenda.put(item, time)
            plain[item] = time
        elif verb == "d":
            agenda.drop(item)
            plain.pop(item, None)
        else:
            due = min(plain.values(), default=math.inf)
            popped = agenda.pop(time)
            assert (popped is not None) is (due <= time)
            if popped is not None:
                assert plain.pop(popped) == due
        assert agenda.next_due() == min(plain.values(), default=math.inf)
        assert len(agenda) == len(plain)
        assert all((each in agenda) is (each in plain) for each in "abc")


@pytest.mark.parametrize(("rate", "burst", "expected"), [(10.0, 1, 101), (10.0, 5, 105), (100.0, 25, 1025)])
def test_pace_allows_a_burst_and_then_its_rate(rate: float, burst: int, expected: int) -> None:
    """Asked a thousand times a second for 10 s."""
    pace, came = Pace(rate, burst), 0
    for millisecond in range(10_001):
        while pace.ready() <= millisecond / 1000 + 1e-9:
            pace.take(millisecond / 1000)
            came += 1
    assert expected - 1 <= came <= expected


def test_a_pause_earns_one_burst_and_no_more() -> None:
    pace = Pace(1.0, burst=3)
    for _ in range(3):
        pace.take(0.0)
    assert pace.ready() == 1.0
    for _ in range(3):
        assert pace.ready() <= 1000.0
        pace.take(1000.0)
    assert pace.ready() == 1001.0
