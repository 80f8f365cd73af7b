"""Delays between attempts: growing, bounded, jittered."""

from __future__ import annotations

import random
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.backoff import backoff

seconds = st.floats(0.001, 100)


def test_delays_double_up_to_the_cap() -> None:
    least = islice(backoff(0.025, 0.15, lambda: 0.0), 6)
    assert list(least) == pytest.approx([0.0125, 0.025, 0.05, 0.075, 0.075, 0.075])


def test_the_factor_is_the_callers() -> None:
    assert list(islice(backoff(1.0, 100.0, lambda: 0.0, factor=3.0), 3)) == pytest.approx([0.5, 1.5, 4.5])


@given(first=seconds, cap=seconds, chance=st.floats(0, 1, exclude_max=True))
def test_no_delay_is_nothing_and_none_is_above_the_cap(first: float, cap: float, chance: float) -> None:
    delays = list(islice(backoff(first, cap, lambda: chance), 20))
    assert all(0 < delay <= cap for delay in delays)
    assert all(later >= earlier for earlier, later in pairwise(delays))
    assert delays[-1] >= cap / 2 or delays[-1] >= first * 2**18


def test_clients_of_a_server_that_came_back_spread_over_half_a_step() -> None:
    lot = random.Random(1)
    firsts = [next(backoff(1.0, 3.0, lot.random)) for _ in range(1000)]
    tenths = [sum(1 for delay in firsts if low <= delay * 20 < low + 1) for low in range(10, 20)]
    assert all(50 < share < 150 for share in tenths)
