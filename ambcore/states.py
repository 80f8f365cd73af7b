"""The life stories, as tables of data: (state, event) -> next state.

A step that a table does not have raises IllegalStepError: the caller has a defect, and a loud one is found sooner.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

from ambcore.errors import IllegalStepError

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


def step(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """The state after `event`; raises IllegalStepError naming both."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalStepError(f"{type(state).__name__}: no step from {state.name} on {event.name}") from None


class Watch(enum.Enum):
    """How well a list-then-watch knows its prefix."""

    LISTING = "listing"  # nothing known yet, or all must be read again
    WATCHING = "watching"  # every change arrives
    BROKEN = "broken"  # last known contents stand, changes may be missing
    CLOSED = "closed"


class WatchEvent(enum.Enum):
    """What can happen to a watch."""

    LISTED = "listed"
    RESUMED = "resumed"
    LOST = "lost"
    COMPACTED = "compacted"
    CLOSE = "close"


WATCH: Mapping[tuple[Watch, WatchEvent], Watch] = {
    (Watch.LISTING, WatchEvent.LISTED): Watch.WATCHING,
    (Watch.LISTING, WatchEvent.LOST): Watch.LISTING,
    (Watch.LISTING, WatchEvent.COMPACTED): Watch.LISTING,
    (Watch.WATCHING, WatchEvent.LISTED): Watch.WATCHING,  # the safety relist
    (Watch.WATCHING, WatchEvent.LOST): Watch.BROKEN,
    (Watch.WATCHING, WatchEvent.COMPACTED): Watch.LISTING,
    (Watch.BROKEN, WatchEvent.RESUMED): Watch.WATCHING,
    (Watch.BROKEN, WatchEvent.LOST): Watch.BROKEN,
    (Watch.BROKEN, WatchEvent.COMPACTED): Watch.LISTING,
    **{(state, WatchEvent.CLOSE): Watch.CLOSED for state in Watch},
}


class Lease(enum.Enum):
    """What we know of our lease."""

    NONE = "none"
    HELD = "held"
    SUSPECT = "suspect"  # no answer for a whole TTL: the server may be down and the lease alive
    CLOSED = "closed"


class LeaseEvent(enum.Enum):
    """What can happen to a lease."""

    GRANTED = "granted"
    RENEWED = "renewed"
    SILENT = "silent"
    GONE = "gone"
    CLOSE = "close"


LEASE: Mapping[tuple[Lease, LeaseEvent], Lease] = {
    (Lease.NONE, LeaseEvent.GRANTED): Lease.HELD,
    (Lease.HELD, LeaseEvent.RENEWED): Lease.HELD,
    (Lease.HELD, LeaseEvent.SILENT): Lease.SUSPECT,
    (Lease.HELD, LeaseEvent.GONE): Lease.NONE,
    (Lease.SUSPECT, LeaseEvent.RENEWED): Lease.HELD,
    (Lease.SUSPECT, LeaseEvent.SILENT): Lease.SUSPECT,
    (Lease.SUSPECT, LeaseEvent.GONE): Lease.NONE,
    **{(state, LeaseEvent.CLOSE): Lease.CLOSED for state in Lease},
}
