"""What checks amount to: rows of what was known, what a check found, and what is known then."""

from __future__ import annotations

from itertools import product

import pytest

from ambcore.health import HEALTH, NEW, Event, Health, Result, State, Verdict, learn, next_check

PASSED = Result(Verdict.PASSED, 0.001)
REFUSED = Result(Verdict.REFUSED, 0.002)
SILENT = Result(Verdict.SILENT, 0.4)
CLOSED = Result(Verdict.CLOSED, 0.1)
NO_ROUTE = Result(Verdict.SILENT, 0.0, "No route to host")
LOCAL = Result(Verdict.LOCAL, 0.0, "Too many open files")


def after(*results: Result) -> Health:
    """What is known after these checks, a second apart, the first at 1."""
    health = NEW
    for now, result in enumerate(results, start=1):
        health = learn(health, result, now)
    return health


@pytest.mark.parametrize(
    ("results", "state", "since", "why"),
    [
        ([], "up", None, ""),
        ([PASSED], "up", None, ""),
        ([REFUSED], "suspect", None, "refused"),
        ([SILENT], "suspect", None, "silent"),
        ([CLOSED], "suspect", None, "closed"),
        ([REFUSED, SILENT], "down", 2, "silent"),
        ([REFUSED, PASSED], "up", None, "refused"),
        ([REFUSED, PASSED, REFUSED], "suspect", None, "refused"),
        ([REFUSED, REFUSED, REFUSED, CLOSED], "down", 2, "closed"),
        ([REFUSED, REFUSED, PASSED], "up", 3, "refused"),
        ([REFUSED, REFUSED, PASSED, PASSED], "up", 3, "refused"),
        ([REFUSED, REFUSED, PASSED, NO_ROUTE], "suspect", 3, "No route to host"),
        ([REFUSED, LOCAL, REFUSED], "down", 3, "refused"),
        ([REFUSED, REFUSED, LOCAL], "down", 2, "refused"),
    ],
)
def test_two_failures_in_a_row_take_an_instance_out_and_one_success_brings_it_back(
    results: list[Result], state: str, since: float | None, why: str
) -> None:
    health = after(*results)
    assert (health.state.value, health.since, health.why) == (state, since, why)
    assert health.down is (state == "down")


def test_every_state_knows_what_to_make_of_every_event() -> None:
    assert set(HEALTH) == set(product(State, Event))


def test_trouble_of_this_machine_says_nothing_of_the_instance() -> None:
    for health in (NEW, after(PASSED), after(REFUSED), after(REFUSED, REFUSED)):
        assert learn(health, LOCAL, 9) is health


def test_instances_that_never_failed_and_answer_equally_fast_share_one_value() -> None:
    """So that a fleet of 10,000 costs next to nothing."""
    assert learn(NEW, PASSED, 1) is learn(after(PASSED), Result(Verdict.PASSED, 0.00101), 2)


def test_seconds_of_the_last_check_are_kept() -> None:
    assert (NEW.took, after(PASSED).took, after(PASSED, SILENT).took) == (None, 0.001, 0.4)


@pytest.mark.parametrize(
    ("results", "due"),
    [
        ([PASSED], None),
        ([LOCAL], None),
        ([REFUSED], 10.4),
        ([REFUSED, LOCAL], 12.0),
        ([REFUSED, REFUSED], 12.0),
        ([REFUSED, REFUSED, LOCAL], 12.0),
        ([REFUSED, REFUSED, PASSED], None),
    ],
)
def test_a_suspect_is_asked_again_at_once_and_the_down_each_interval(results: list[Result], due: float | None) -> None:
    """Of those that are well each has its turn: None."""
    verdict = results[-1].verdict
    assert next_check(after(*results), verdict, 10.0, interval=2.0, timeout=0.4) == due
