"""The life stories: every step is in its table, or is loud."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from ambcore import states
from ambcore.errors import IllegalStepError
from ambcore.states import Lease, LeaseEvent, Watch, WatchEvent, step

Steps = Mapping[tuple[Any, Any], Any]

# table, states, events, first states, last state
STORIES = [
    pytest.param(states.WATCH, Watch, WatchEvent, {Watch.LISTING}, Watch.CLOSED, id="watch"),
    pytest.param(states.LEASE, Lease, LeaseEvent, {Lease.NONE}, Lease.CLOSED, id="lease"),
]
story = pytest.mark.parametrize(("table", "all_states", "all_events", "first", "last"), STORIES)


def reachable(table: Steps, sources: set[Any]) -> set[Any]:
    """Every state that some sequence of events leads to, the sources included."""
    seen, fresh = set(sources), set(sources)
    while fresh:
        fresh = {after for (before, _), after in table.items() if before in fresh} - seen
        seen |= fresh
    return seen


@story
def test_a_step_is_in_the_table_or_raises_naming_state_and_event(
    table: Steps, all_states: type[enum.Enum], all_events: type[enum.Enum], first: set[Any], last: Any
) -> None:
    for state, event in product(all_states, all_events):
        if (state, event) in table:
            assert step(table, state, event) is table[state, event]
            assert isinstance(table[state, event], all_states)
        else:
            with pytest.raises(
                IllegalStepError, match=f"{all_states.__name__}: no step from {state.name} on {event.name}"
            ):
                step(table, state, event)


@story
def test_a_table_speaks_of_its_own_states_and_events_only(
    table: Steps, all_states: type[enum.Enum], all_events: type[enum.Enum], first: set[Any], last: Any
) -> None:
    assert {state for state, _ in table} | set(table.values()) == set(all_states)
    assert {event for _, event in table} == set(all_events)


@story
def test_every_state_can_be_reached_and_left_for_the_end(
    table: Steps, all_states: type[enum.Enum], all_events: type[enum.Enum], first: set[Any], last: Any
) -> None:
    assert reachable(table, first) == set(all_states)
    for state in all_states:
        assert last in reachable(table, {state})


@story
def test_the_end_is_final_and_closing_twice_is_fine(
    table: Steps, all_states: type[enum.Enum], all_events: type[enum.Enum], first: set[Any], last: Any
) -> None:
    assert {event for state, event in table if state is last} == {all_events["CLOSE"]}
    assert reachable(table, {last}) == {last}


def test_a_watch_is_never_silently_dead() -> None:
    """From every state but the end, a loss and a compaction lead on, and watching can be had again."""
    for state in set(Watch) - {Watch.CLOSED}:
        for event in (WatchEvent.LOST, WatchEvent.COMPACTED):
            after = step(states.WATCH, state, event)
            assert after is not Watch.CLOSED
            assert Watch.WATCHING in reachable(states.WATCH, {after})


def test_a_lost_watch_is_not_trusted_before_it_is_resumed_or_listed_anew() -> None:
    assert step(states.WATCH, Watch.WATCHING, WatchEvent.LOST) is Watch.BROKEN
    assert step(states.WATCH, Watch.WATCHING, WatchEvent.COMPACTED) is Watch.LISTING
    into_watching = {event for (_, event), after in states.WATCH.items() if after is Watch.WATCHING}
    assert into_watching == {WatchEvent.LISTED, WatchEvent.RESUMED}


def test_a_silent_lease_is_suspect_until_the_server_says_more() -> None:
    suspect = step(states.LEASE, Lease.HELD, LeaseEvent.SILENT)
    assert suspect is Lease.SUSPECT
    assert step(states.LEASE, suspect, LeaseEvent.RENEWED) is Lease.HELD
    assert step(states.LEASE, suspect, LeaseEvent.GONE) is Lease.NONE
