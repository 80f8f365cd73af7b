"""simple-amb's caps: a full target is passed over, and a client that has its fill is reset."""

from __future__ import annotations

import contextlib

from tests.simple_amb.conftest import Start
from tests.support.relay_peers import Instance, connect, talking, was_reset


def test_the_next_target_is_asked_when_the_first_is_full(start: Start) -> None:
    with Instance() as first, Instance() as second:
        amb = start(*(f"127.0.0.1:{each.address[1]}" for each in (first, second)), "--max-per-instance", "1")
        talking(amb, first)
        talking(amb, second)


def test_a_client_that_has_its_fill_is_reset(start: Start) -> None:
    with Instance() as target:
        amb = start(f"127.0.0.1:{target.address[1]}", "--max-per-source", "1")
        talking(amb, target)
        with contextlib.suppress(ConnectionResetError):  # already in connect(2)
            assert was_reset(connect(amb.address))
