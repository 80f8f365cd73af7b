"""Whether an instance answers: what checks have said of it, and when it is asked again.

    UP --failed--> SUSPECT --failed--> DOWN --passed--> UP

Two failures in a row take an instance out, one success brings it back. A new one counts as up, since its record says
so, and a SUSPECT still does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ambcore.states import step

TOOK_DIGITS = 4  # tenths of a millisecond: coarse enough for a fleet to share a few hundred values


class Verdict(enum.StrEnum):
    """What one check has found."""

    PASSED = "passed"
    REFUSED = "refused"
    SILENT = "silent"
    CLOSED = "closed"  # it accepted and hung up: a forwarder stands there, or a server that cannot serve
    LOCAL = "local trouble"  # this machine could not ask, which says nothing of the instance


class Result(NamedTuple):
    """A check's verdict, the seconds it took to find out, and the system's own words where it has any."""

    verdict: Verdict
    took: float = 0.0
    error: str = ""

    @property
    def why(self) -> str:
        """The shortest reason fit for an operator."""
        return self.error or self.verdict.value


class State(enum.StrEnum):
    """What the checks so far amount to."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


class Event(enum.Enum):
    """What a check can do to a state."""

    PASSED = "passed"
    FAILED = "failed"


HEALTH: Mapping[tuple[State, Event], State] = {
    **{(state, Event.PASSED): State.UP for state in State},
    (State.UP, Event.FAILED): State.SUSPECT,
    (State.SUSPECT, Event.FAILED): State.DOWN,
    (State.DOWN, Event.FAILED): State.DOWN,
}


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one address.

    `since` is when it last went down or came back, in the caller's seconds; None if it never did. `took` are the
    seconds of the last check, None before the first. `why` is the reason of the last failure, kept after a recovery.
    """

    state: State = State.UP
    since: float | None = None
    took: float | None = None
    why: str = ""

    @property
    def down(self) -> bool:
        """Whether it should get no client."""
        return self.state is State.DOWN


NEW = Health()
UNPROVEN = Health(State.DOWN)  # one that nobody vouches for


@lru_cache(maxsize=1024)
def _well(took: float) -> Health:
    """One value for all instances that never failed and answer equally fast: 10,000 of them cost next to nothing."""
    return Health(took=took)


def learn(health: Health, result: Result, now: float) -> Health:
    """What is known after a check."""
    if result.verdict is Verdict.LOCAL:
        return health
    took = round(result.took, TOOK_DIGITS)
    passed = result.verdict is Verdict.PASSED
    state = step(HEALTH, health.state, Event.PASSED if passed else Event.FAILED)
    if passed and not health.why:
        return _well(took)
    changed = health.down is not (state is State.DOWN)
    return Health(state, now if changed else health.since, took, health.why if passed else result.why)


def next_check(health: Health, verdict: Verdict, began: float, *, interval: float, timeout: float) -> float | None:
    """When to ask again after a check that `began` then; None for its turn among all that are well.

    A suspect is asked again as soon as a silent check would have ended, so that its two failures are `timeout` apart
    however fast it refuses: a server's restart of a few milliseconds is not an outage.
    """
    if health.state is State.UP:
        return None
    if health.state is State.SUSPECT and verdict is not Verdict.LOCAL:
        return began + timeout
    return began + interval
