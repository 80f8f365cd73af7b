"""PURE: from what was seen and heard of the container to what should be done in the registry.

The daemon's state is authoritative, its events are hints that arrive sooner: a death or a terminating signal counts
at once if it belongs to the run last seen, and only until an inspection says otherwise. So neither a lost event nor one
out of order leaves anything wrong behind.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ambcore.containers import ContainerEvent
from ambcore.model import Instance, Readiness
from ambcore.registration.extract import Host, Reason, Refusal, Run, Wish, extract, name_of, run_of

V = TypeVar("V")
Verdict = Instance | Refusal  # on the one container that is asked for

# Longer than `docker stop` waits (10 s) before it kills: whoever is alive after that meant to survive the signal.
GRACE = 15.0
GRACE_MARGIN = 5.0  # seconds added to a stop timeout of the container's own

TERMINATING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGQUIT})


@dataclass(frozen=True, slots=True)
class Leaving:
    """A terminating signal was sent; unless it dies, the container counts as staying from `until` (monotonic) on."""

    run: Run
    until: float


class Standing(enum.Enum):
    """How a container's verdict is to be taken, after what was heard since."""

    AS_SEEN = "as seen"
    DRAINING = "draining"  # told to end, and probably about to
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class View(Generic[V]):
    """What we know of a container. `verdict`, what an inspection came to, is None if there was none: unknown, which is
    not absent.
    """

    run: Run | None = None
    name: str = ""
    verdict: V | None = None
    stop_signal: int = signal.SIGTERM
    grace: float = GRACE
    ended: bool = False
    leaving: Leaving | None = None


def see(view: View[Verdict], inspected: Mapping[str, Any] | None, wish: Wish, host: Host) -> View[Verdict]:
    """The view of the one container after an inspection that was asked for after every event heard so far."""
    verdict = extract(inspected, wish, host)
    if inspected is None or (isinstance(verdict, Refusal) and verdict.reason is Reason.ABSENT):
        return View(verdict=verdict)
    return seen(view, inspected, verdict)


def seen(view: View[V], inspected: Mapping[str, Any], verdict: V) -> View[V]:
    """The view after an inspection, asked for after every event heard so far, that came to this verdict."""
    config = inspected.get("Config") or {}
    run = run_of(inspected)
    return View(
        run=run,
        name=name_of(inspected),
        verdict=verdict,
        stop_signal=signal_number(str(config.get("StopSignal") or "")) or signal.SIGTERM,
        grace=max(GRACE, float(config.get("StopTimeout") or 0) + GRACE_MARGIN),
        leaving=view.leaving if view.leaving is not None and view.leaving.run == run else None,
    )


def concerns(view: View[Verdict], event: ContainerEvent, wish: Wish) -> bool:
    """Whether an event may have to do with the container we are after; a rename away from its name included."""
    known = view.run is not None and event.container == view.run.container
    return known or wish.container in (event.name, event.old_name) or event.container.startswith(wish.container)


def hear(view: View[V], event: ContainerEvent, now: float) -> View[V]:
    """The view with what an event hints at; `now` is monotonic. An event of another or an earlier run says nothing."""
    if view.run is None or event.container != view.run.container or event.time < view.run.started:
        return view
    if event.action == "die":
        return replace(view, ended=True)
    if event.action == "kill" and signal_number(event.signal) in TERMINATING | {view.stop_signal}:
        return replace(view, leaving=Leaving(view.run, now + view.grace))
    return view


def standing(view: View[V], now: float) -> Standing:
    """How to take the verdict now (monotonic)."""
    if view.ended:
        return Standing.ENDED
    return Standing.DRAINING if view.leaving is not None and now < view.leaving.until else Standing.AS_SEEN


def ended(view: View[V]) -> Refusal:
    """Why one that has ended is not registered."""
    return Refusal(Reason.NOT_RUNNING, f"{view.name} has ended")


def wanted(view: View[Verdict], now: float) -> Verdict | None:
    """What the registry should hold: an instance, nothing for a reason, or None while nothing is known."""
    if isinstance(view.verdict, Instance):
        match standing(view, now):
            case Standing.ENDED:
                return ended(view)
            case Standing.DRAINING:
                return replace(view.verdict, readiness=Readiness.DRAINING)
    return view.verdict


def next_look(view: View[V], now: float) -> float | None:
    """Seconds until `wanted` may change by time alone; None if it will not."""
    return max(0.0, view.leaving.until - now) if view.leaving is not None and now < view.leaving.until else None


class Do(enum.Enum):
    """What to do in the registry."""

    HOLD = "hold"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Action:
    """One step; `instance` is what to hold, or what to release as it was held."""

    do: Do
    instance: Instance


def plan(want: Instance | Refusal | None, held: Instance | None) -> tuple[Action, ...]:
    """The steps from what is held to what is wanted, in order: a record that moved is released under its old key first.

    Unknown changes nothing.
    """
    if want is None or want == held:
        return ()
    if isinstance(want, Refusal):
        return () if held is None else (Action(Do.RELEASE, held),)
    if held is not None and (held.service, held.id) != (want.service, want.id):
        return Action(Do.RELEASE, held), Action(Do.HOLD, want)
    return (Action(Do.HOLD, want),)


def signal_number(text: str) -> int | None:
    """A signal as Docker writes it (`15`, `TERM`, `SIGTERM`, `RTMIN+3`) as its number; None if there is no such."""
    if text.isascii() and text.isdigit():
        return int(text[:4])
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    try:
        number = int(signal.Signals["SIG" + base])
        return number + int(sign + offset) if sign else number
    except (KeyError, ValueError):
        return None
