"""Whether somebody answers, decided without a clock or a socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ambcore.findings import Level
from ambcore.health import Result, Verdict
from ambcore.model import Address, Instance, Protocol, Readiness
from ambcore.registration.extract import Reason, Refusal
from registrar.answers import (
    ADVICE,
    PATIENCE,
    SELDOM,
    Door,
    Verify,
    complaint,
    held_back,
    is_dialled,
    is_overdue,
    learn,
    pause,
)
from registrar.host_plan import Wanted, hold_back

ONE = Instance("web", "one", Address("10.1.2.3", 80), container="11" * 32)
MOVED = replace(ONE, address=Address("10.1.2.3", 81))
UDP = replace(ONE, protocol=Protocol.UDP)
DRAINING = replace(ONE, readiness=Readiness.DRAINING)
SHUT, OPEN = Result(Verdict.REFUSED), Result(Verdict.PASSED, 0.001)


def door(*results: Result, said: bool = False, published: bool = False) -> Door:
    """After these dials."""
    found = Door(ONE, 100.0, said=said, published=published)
    for result in results:
        found = learn(found, result)
    return found


def test_pauses_grow_from_50_ms_to_a_second() -> None:
    pauses = [pause(door(*[SHUT] * tries), Verify.WAIT) for tries in range(1, 9)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert pause(door(*[SHUT] * 100_000), Verify.WAIT) == 1.0


def test_what_was_complained_of_is_dialled_seldom_unless_somebody_waits_for_it() -> None:
    assert pause(door(SHUT, said=True), Verify.WARN) == SELDOM
    assert pause(door(SHUT, said=True, published=True), Verify.WAIT) == SELDOM
    assert pause(door(*[SHUT] * 9, said=True), Verify.WAIT) == 1.0


@pytest.mark.parametrize(
    ("found", "after", "due"),
    [
        (door(SHUT), PATIENCE - 0.01, False),
        (door(SHUT), PATIENCE, True),
        (door(SHUT, said=True), 2 * PATIENCE, False),
        (door(SHUT, OPEN), 2 * PATIENCE, False),
    ],
)
def test_it_is_said_once_and_after_a_while(found: Door, after: float, due: bool) -> None:
    assert is_overdue(found, found.since + after) is due


@pytest.mark.parametrize(
    ("instance", "told", "found", "waits"),
    [
        (ONE, None, None, True),
        (ONE, None, door(), True),
        (ONE, None, door(SHUT), True),
        (ONE, None, door(SHUT, OPEN), False),
        (ONE, None, door(published=True), False),
        (ONE, ONE, None, False),  # not taken back
        (replace(ONE, weight=7), ONE, door(SHUT), False),
        (DRAINING, ONE, None, False),
        (DRAINING, None, None, True),  # told to end before anybody answered
        (MOVED, ONE, None, True),  # what is published is wrong: another port has to answer
        (UDP, None, None, False),
    ],
)
def test_who_waits_for_an_answer(instance: Instance, told: Instance | None, found: Door | None, waits: bool) -> None:
    refusal = held_back(instance, told, found)
    assert (refusal is not None) is waits
    assert refusal is None or refusal.reason is Reason.UNANSWERED


def test_of_a_host_those_are_left_out_that_wait_and_say_so_beside_what_else_was_refused() -> None:
    other = Instance("web", "two", Address("10.1.2.3", 90), container="22" * 32)
    ignored, waits = Refusal(Reason.IGNORED, "ignored"), Refusal(Reason.UNANSWERED, "waits")
    wanted = Wanted({("web", "one"): ONE, ("web", "two"): other}, {"11" * 32: (ignored,)})
    asked = []

    def why_not(one: Instance, told: Instance | None) -> Refusal | None:
        asked.append((one.id, told))
        return waits if one.id == "one" else None

    held = hold_back(wanted, {("web", "two"): other}, why_not)
    assert held == Wanted({("web", "two"): other}, {"11" * 32: (ignored, waits)})
    assert asked == [("one", None), ("two", other)]
    assert hold_back(wanted, {}, lambda *_: None) is wanted


def test_datagrams_and_those_that_drain_are_not_dialled() -> None:
    assert [is_dialled(one) for one in (ONE, UDP, DRAINING)] == [True, False, False]


@pytest.mark.parametrize(
    ("found", "verify", "level", "ends"),
    [
        (door(SHUT), Verify.WARN, Level.AMBER, "(refused); it is published all the same"),
        (door(SHUT), Verify.WAIT, Level.RED, "(refused); it is not published"),
        (door(SHUT, published=True), Verify.WAIT, Level.AMBER, "(refused); it is published all the same"),
        (
            door(Result(Verdict.SILENT, error="No route to host")),
            Verify.WARN,
            Level.AMBER,
            "(No route to host); it is published all the same",
        ),
    ],
)
def test_a_complaint_says_what_was_seen_and_what_became_of_the_record(
    found: Door, verify: Verify, level: Level, ends: str
) -> None:
    told = complaint(found, 7.2, verify)
    assert told is not None
    assert (told.level, told.topic) == (level, "answer")
    assert told.says == f"nobody has answered registrar at 10.1.2.3:80, web/one, for 7 s {ends}"
    assert found.last is not None
    assert told.do == ADVICE[found.last.verdict]


@pytest.mark.parametrize("found", [door(), door(SHUT, OPEN)])
def test_nothing_is_complained_of_before_the_first_dial_and_after_an_answer(found: Door) -> None:
    assert complaint(found, 7.2, Verify.WARN) is None


def test_every_failure_has_advice() -> None:
    assert ADVICE.keys() == set(Verdict) - {Verdict.PASSED}
