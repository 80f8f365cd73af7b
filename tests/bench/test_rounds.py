"""Samples become rows: medians over the rounds, and ratios within them."""

from __future__ import annotations

import pytest

from bench.rounds import Sample, percentile, summarise

RIVALS = {"relay-1": "haproxy-1", "haproxy-1": "haproxy-1"}


def samples(subject: str, *values: float, metric: str = "rate") -> list[Sample]:
    return [Sample(number, "get-50", subject, metric, "1/s", value) for number, value in enumerate(values, 1)]


def test_a_row_has_the_median_the_least_and_the_greatest_of_its_rounds() -> None:
    (row,) = summarise(samples("relay-1", 30, 10, 20), RIVALS)
    assert (row.median, row.min, row.max, row.rounds) == (20, 10, 30, 3)


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_round_cancels_out() -> None:
    """In the second round the whole machine was three times slower; the subject was at half of direct all the time."""
    rows = summarise([*samples("direct", 300, 100, 300), *samples("relay-1", 150, 50, 150)], RIVALS)
    assert rows[1].ratio_direct == 0.5


def test_each_subject_is_compared_with_its_own_rival() -> None:
    rows = summarise([*samples("haproxy-1", 100), *samples("haproxy-2", 200), *samples("relay-1", 150)], RIVALS)
    assert [(row.subject, row.ratio_haproxy) for row in rows] == [
        ("haproxy-1", 1.0),
        ("haproxy-2", None),
        ("relay-1", 1.5),
    ]


def test_nothing_is_divided_by_nothing() -> None:
    """A rival that is missing in a round, or measured as 0, gives that round no ratio."""
    rows = summarise([*samples("haproxy-1", 0, 100), *samples("relay-1", 10, 50, 70)], RIVALS)
    assert rows[1].ratio_haproxy == 0.5
    (alone,) = summarise(samples("relay-1", 10), RIVALS)
    assert alone.ratio_direct is None


def test_counts_have_no_ratios() -> None:
    rows = summarise([*samples("haproxy-1", 3, metric="errors"), *samples("relay-1", 6, metric="errors")], RIVALS)
    assert [row.ratio_haproxy for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)], ids=["median", "p99", "all", "none"]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected
