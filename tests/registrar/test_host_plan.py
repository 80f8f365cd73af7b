"""From the views of all containers to the registry: who gets a key, what is to be done, what waits for time to pass."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ambcore.containers import ContainerEvent
from ambcore.model import Address, Instance, Readiness
from ambcore.registration.conventions import Findings
from ambcore.registration.extract import Reason, Refusal
from registrar.host_plan import HostView, key_of, next_change, settle, steps
from registrar.reconcile import GRACE, Do, View, hear, seen
from tests.support.inspections import container

NOW = 1000.0
FIRST, SECOND, THIRD = "11" * 32, "22" * 32, "33" * 32


def instance(key: str, owner: str, port: int = 80) -> Instance:
    service, _, name = key.partition("/")
    return Instance(service, name, Address("10.1.2.3", port), container=owner)


def view(identity: str, *keys: str, started: int = 1, refusals: tuple[Refusal, ...] = ()) -> HostView:
    """What is known of a container that started in that second of 2026 and claims these keys."""
    inspected = container(name=identity[:2], identity=identity, started=f"2026-01-02T03:04:{started:02}Z")
    findings = Findings(tuple(instance(key, identity) for key in keys), refusals)
    return seen(View(), inspected, findings)


def event(identity: str, action: str, **more: Any) -> ContainerEvent:
    return ContainerEvent(action, identity, time=2 * 10**18, **more)


def test_every_instance_is_wanted_and_every_refusal_kept() -> None:
    refusal = Refusal(Reason.IGNORED, "ignored")
    views = {FIRST: view(FIRST, "a/1", "b/1"), SECOND: view(SECOND, "a/2", refusals=(refusal,))}
    wanted = settle(views, {}, NOW)
    assert sorted(wanted.instances) == [("a", "1"), ("a", "2"), ("b", "1")]
    assert wanted.refusals == {SECOND: (refusal,)}


def test_of_two_that_claim_one_key_the_older_gets_it_unless_the_other_has_it() -> None:
    views = {FIRST: view(FIRST, "a/1", started=9), SECOND: view(SECOND, "a/1", "a/2", started=5)}
    fresh = settle(views, {}, NOW)
    assert fresh.instances["a", "1"].container == SECOND
    assert [refusal.reason for refusal in fresh.refusals[FIRST]] == [Reason.DUPLICATE]
    held = settle(views, {("a", "1"): instance("a/1", FIRST)}, NOW)
    assert held.instances["a", "1"].container == FIRST
    assert "taken by 11" in held.refusals[SECOND][0].text
    assert held.instances["a", "2"].container == SECOND


def test_one_that_has_ended_makes_room_for_the_other_at_once() -> None:
    views = {FIRST: view(FIRST, "a/1", started=5), SECOND: view(SECOND, "a/1", started=9)}
    views[FIRST] = hear(views[FIRST], event(FIRST, "die"), NOW)
    wanted = settle(views, {("a", "1"): instance("a/1", FIRST)}, NOW)
    assert wanted.instances["a", "1"].container == SECOND
    assert [refusal.reason for refusal in wanted.refusals[FIRST]] == [Reason.NOT_RUNNING]


def test_pain_17_a_terminating_signal_drains_every_instance_until_its_grace_is_over() -> None:
    told = hear(view(FIRST, "a/1", "b/1"), event(FIRST, "kill", signal="15"), NOW)
    views = {FIRST: told, SECOND: view(SECOND, "a/2")}
    during = settle(views, {}, NOW + 1).instances
    assert {key: found.readiness for key, found in during.items()} == {
        ("a", "1"): Readiness.DRAINING,
        ("b", "1"): Readiness.DRAINING,
        ("a", "2"): Readiness.UP,
    }
    assert next_change(views, NOW + 1) == {FIRST: GRACE - 1}
    after = settle(views, {}, NOW + GRACE).instances
    assert {found.readiness for found in after.values()} == {Readiness.UP}
    assert next_change(views, NOW + GRACE) == {}


def test_a_container_that_was_never_seen_wants_nothing_and_breaks_nothing() -> None:
    assert settle({FIRST: View()}, {}, NOW).instances == {}


def test_releases_come_before_holds_and_what_is_right_is_left_alone() -> None:
    same, moved, gone, new = (
        instance("a/1", FIRST),
        instance("a/2", FIRST),
        instance("a/3", FIRST),
        instance("a/4", FIRST),
    )
    wanted = {key_of(found): found for found in (same, instance("a/2", FIRST, port=81), new)}
    due = steps(wanted, {key_of(found): found for found in (same, moved, gone)})
    assert [(action.do, key) for key, action in due.items()] == [
        (Do.RELEASE, ("a", "3")),
        (Do.HOLD, ("a", "2")),
        (Do.HOLD, ("a", "4")),
    ]


claims = st.lists(st.sampled_from(["a/1", "a/2", "b/1"]), unique=True)
hosts = st.dictionaries(st.sampled_from([FIRST, SECOND, THIRD]), st.tuples(claims, st.integers(0, 59)))


@given(hosts, hosts)
def test_carried_out_the_steps_lead_there_and_then_there_are_none(before: Any, after: Any) -> None:
    """And what no claim of another is about stays with its holder, whoever comes."""

    def views(host: Any) -> dict[str, HostView]:
        return {name: view(name, *keys, started=started) for name, (keys, started) in host.items()}

    told = dict(settle(views(before), {}, NOW).instances)
    wanted = settle(views(after), told, NOW)
    result = dict(told)
    for key, action in steps(wanted.instances, told).items():
        if action.do is Do.RELEASE:
            del result[key]
        else:
            result[key] = action.instance
    assert result == wanted.instances
    assert not steps(settle(views(after), result, NOW).instances, result)
    claimed = {tuple(key.split("/")) for keys, _ in after.values() for key in keys}
    assert set(result) == claimed
    for key, holder in told.items():
        if key in result and holder.container in after and "/".join(key) in after[holder.container][0]:
            assert result[key].container == holder.container
