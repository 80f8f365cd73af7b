"""Once per change of state, and so many lines at most."""

from __future__ import annotations

import logging

import pytest

from ambnet.saying import LINES, PERIOD, Ration, Saying


def test_a_state_is_said_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    saying = Saying(logging.getLogger("ambnet.test"))
    for state, reason in [("lost", "a"), ("lost", "b"), ("well", "c"), ("well", "d"), ("lost", "e")]:
        saying.say(state, logging.INFO, "%s: %s", state, reason)
    assert caplog.messages == ["lost: a", "well: c", "lost: e"]


def test_C28_lines_whose_number_others_decide_are_so_many_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    ration = Ration(logging.getLogger("records"), lambda: now)
    with caplog.at_level(logging.INFO, "records"):
        for number in range(LINES + 500):
            ration.say(logging.INFO, "record %d", number)
        assert len(caplog.records) == LINES + 1
        assert "the rest is left out" in caplog.messages[-1]
        now = PERIOD
        ration.say(logging.INFO, "later")
    assert caplog.messages[-2:] == ["500 lines were left out", "later"]
