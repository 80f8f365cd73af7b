"""PURE: from the views of all containers of a host to what should stand in the registry, and the steps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ambcore.model import Instance, Readiness
from ambcore.registration.conventions import Findings
from ambcore.registration.extract import Reason, Refusal
from registrar.reconcile import Action, Do, Standing, View, ended, next_look, standing

Key = tuple[str, str]  # service and instance id
HostView = View[Findings]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be registered, by key, and by container what should not and why."""

    instances: Mapping[Key, Instance] = field(default_factory=dict)
    refusals: Mapping[str, tuple[Refusal, ...]] = field(default_factory=dict)


def key_of(instance: Instance) -> Key:
    """Under what a record stands, as far as this host decides."""
    return instance.service, instance.id


def settle(views: Mapping[str, HostView], held: Mapping[Key, Instance], now: float) -> Wanted:
    """What follows from what is known of every container, by full id; `now` is monotonic.

    Where two claim one key (by SERVICE_ID, or as one was renamed to what another was), whoever has it keeps it, else
    the one that started first gets it.
    """
    instances: dict[Key, Instance] = {}
    refusals: dict[str, tuple[Refusal, ...]] = {}

    def rank(container: str) -> tuple[int, str]:
        run = views[container].run
        return run.started if run else 0, container

    for container in sorted(views, key=rank):
        found = _now(views[container], now)
        if found.refusals:
            refusals[container] = found.refusals
        for instance in found.instances:
            key = key_of(instance)
            other = instances.get(key)
            if other is not None:
                instance, other = _choose(other, instance, held.get(key))  # noqa: PLW2901 - the better of two claims
                loser = other.container or ""
                refusals[loser] = (*refusals.get(loser, ()), _taken(other, views, instance))
            instances[key] = instance
    return Wanted(instances, refusals)


def _now(view: HostView, now: float) -> Findings:
    """A container's findings after what was heard since."""
    found = view.verdict or Findings()
    match standing(view, now):
        case Standing.ENDED if found.instances:
            return Findings(refusals=(ended(view),))
        case Standing.DRAINING:
            draining = tuple(replace(instance, readiness=Readiness.DRAINING) for instance in found.instances)
            return Findings(draining, found.refusals)
    return found


def _choose(first: Instance, second: Instance, holder: Instance | None) -> tuple[Instance, Instance]:
    """Winner and loser."""
    if holder is not None and holder.container == second.container != first.container:
        return second, first
    return first, second


def _taken(loser: Instance, views: Mapping[str, HostView], winner: Instance) -> Refusal:
    whose = views[winner.container or ""].name
    return Refusal(Reason.DUPLICATE, f"{loser.service}/{loser.id} is taken by {whose}: give one another SERVICE_ID")


def hold_back(
    wanted: Wanted, told: Mapping[Key, Instance], why_not: Callable[[Instance, Instance | None], Refusal | None]
) -> Wanted:
    """Without the instances that are not to be published yet; `why_not` is asked with what the registry was told."""
    why = {key: refusal for key, one in wanted.instances.items() if (refusal := why_not(one, told.get(key)))}
    if not why:
        return wanted
    refusals = dict(wanted.refusals)
    for key, refusal in why.items():
        container = wanted.instances[key].container or ""
        refusals[container] = (*refusals.get(container, ()), refusal)
    return Wanted({key: one for key, one in wanted.instances.items() if key not in why}, refusals)


def steps(wanted: Mapping[Key, Instance], told: Mapping[Key, Instance]) -> dict[Key, Action]:
    """One step for each key at which what the registry was told differs from what it should hold; releases first."""
    releases = {key: Action(Do.RELEASE, instance) for key, instance in told.items() if key not in wanted}
    holds = {key: Action(Do.HOLD, instance) for key, instance in wanted.items() if told.get(key) != instance}
    return releases | holds


def next_change(views: Mapping[str, HostView], now: float) -> dict[str, float]:
    """The containers whose grace is running, with the seconds that are left of it."""
    left = {container: next_look(view, now) for container, view in views.items() if view.leaving is not None}
    return {container: seconds for container, seconds in left.items() if seconds is not None}
