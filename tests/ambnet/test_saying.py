"""Once per change of state."""

from __future__ import annotations

import logging

import pytest

from ambnet.saying import Saying


def test_a_state_is_said_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    saying = Saying(logging.getLogger("ambnet.test"))
    for state, reason in [("lost", "a"), ("lost", "b"), ("well", "c"), ("well", "d"), ("lost", "e")]:
        saying.say(state, logging.INFO, "%s: %s", state, reason)
    assert caplog.messages == ["lost: a", "well: c", "lost: e"]
