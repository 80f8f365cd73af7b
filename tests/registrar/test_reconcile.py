"""From what was seen and heard to what the registry should hold."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambcore.containers import ContainerEvent
from ambcore.model import Address, Instance, Readiness, parse_ip
from ambcore.registration.extract import Host, Reason, Refusal, Wish, extract
from registrar.reconcile import (
    GRACE,
    Action,
    Do,
    Verdict,
    View,
    concerns,
    hear,
    next_look,
    plan,
    see,
    signal_number,
    wanted,
)
from tests.support.inspections import ID, OTHER_ID, STARTED_NS, binding, container, stopped

WISH = Wish("redis-demo", 6379, "redis-A")
HOST = Host(advertise=parse_ip("10.1.2.3"))
UP = Instance("redis-A", "redis-demo", Address("10.1.2.3", 49155), container=ID)
LEAVING = replace(UP, readiness=Readiness.DRAINING)
NOW = 1000.0


def event(action: str, *, after: int = 1, identity: str = ID, **more: Any) -> ContainerEvent:
    """An event of the container, `after` nanoseconds after its start."""
    return ContainerEvent(action, identity, name="redis-demo", time=STARTED_NS + after, **more)


def kill(number: object, **more: Any) -> ContainerEvent:
    return event("kill", signal=str(number), **more)


def running(**more: Any) -> View[Verdict]:
    return see(View(), container(binding(), **more), WISH, HOST)


def reason(view: View[Verdict], now: float = NOW) -> Reason | None:
    want = wanted(view, now)
    return want.reason if isinstance(want, Refusal) else None


def test_what_was_never_seen_is_unknown_and_unknown_changes_nothing() -> None:
    assert wanted(View(), NOW) is None
    assert plan(None, UP) == ()
    assert plan(None, None) == ()


def test_a_running_container_is_wanted() -> None:
    assert wanted(running(), NOW) == UP


@pytest.mark.parametrize("number", ["15", "TERM", "SIGTERM", "sigterm", 2, 9, 3, "QUIT", "KILL", "INT"])
def test_a_terminating_signal_marks_the_record_draining_before_the_container_dies(number: object) -> None:
    assert wanted(hear(running(), kill(number), NOW), NOW) == LEAVING


@pytest.mark.parametrize("number", [1, 10, 12, 28, 18, "HUP", "USR1", "USR2", "WINCH", "CONT", "", "nonsense"])
def test_any_other_signal_changes_nothing(number: object) -> None:
    assert wanted(hear(running(), kill(number), NOW), NOW) == UP


@pytest.mark.parametrize(
    ("stop_signal", "sent", "drains"),
    [
        ("SIGUSR1", 10, True),
        ("10", 10, True),
        ("SIGRTMIN+3", 37, True),
        ("RTMIN+3", 37, True),
        ("SIGWINCH", 28, True),
        ("SIGUSR1", 12, False),
        ("SIGUSR1", 15, True),
        ("", 15, True),
        ("nonsense", 15, True),
    ],
)
def test_the_containers_own_stop_signal_terminates(stop_signal: str, sent: int, drains: bool) -> None:
    view = hear(running(config={"StopSignal": stop_signal}), kill(sent), NOW)
    assert wanted(view, NOW) == (LEAVING if drains else UP)


def test_who_survives_the_signal_is_restored_after_the_grace() -> None:
    view = hear(running(), kill(15), NOW)
    assert next_look(view, NOW) == GRACE
    assert wanted(view, NOW + GRACE - 0.001) == LEAVING
    assert wanted(view, NOW + GRACE) == UP
    assert next_look(view, NOW + GRACE) is None
    assert next_look(running(), NOW) is None


def test_a_long_stop_timeout_lengthens_the_grace() -> None:
    view = hear(running(config={"StopTimeout": 60}), kill(15), NOW)
    assert wanted(view, NOW + 60) == LEAVING
    assert wanted(view, NOW + 65) == UP


def test_draining_outlives_an_inspection_of_the_same_run_but_not_of_the_next() -> None:
    view = hear(running(), kill(15), NOW)
    assert wanted(see(view, container(binding()), WISH, HOST), NOW) == LEAVING
    restarted = container(binding(port=49160), started="2026-01-02T03:05:00Z")
    assert wanted(see(view, restarted, WISH, HOST), NOW) == replace(UP, address=Address("10.1.2.3", 49160))


def test_death_counts_at_once() -> None:
    assert reason(hear(running(), event("die"), NOW)) is Reason.NOT_RUNNING
    assert reason(hear(hear(running(), kill(15), NOW), event("die"), NOW)) is Reason.NOT_RUNNING


def test_a_late_death_of_an_earlier_run_says_nothing_about_this_one() -> None:
    assert wanted(hear(running(), event("die", after=-1), NOW), NOW) == UP
    assert wanted(hear(running(), kill(15, after=-1), NOW), NOW) == UP


def test_the_death_of_another_container_says_nothing() -> None:
    assert wanted(hear(running(), event("die", identity=OTHER_ID), NOW), NOW) == UP
    assert wanted(hear(running(), kill(9, identity=OTHER_ID), NOW), NOW) == UP


def test_an_inspection_overrules_a_death_that_was_heard_before() -> None:
    """The daemon's clock may have jumped; what it says of the container now counts."""
    assert wanted(see(hear(running(), event("die"), NOW), container(binding()), WISH, HOST), NOW) == UP


def test_events_before_the_first_inspection_decide_nothing() -> None:
    assert wanted(hear(View(), event("die"), NOW), NOW) is None


def test_removal_leaves_nothing_of_the_old_container() -> None:
    gone = see(hear(running(), kill(15), NOW), None, WISH, HOST)
    assert reason(gone) is Reason.ABSENT
    again = see(gone, container(binding(), identity=OTHER_ID), WISH, HOST)
    assert wanted(again, NOW) == replace(UP, container=OTHER_ID)


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (event("start"), True),
        (ContainerEvent("connect", ID), True),
        (ContainerEvent("rename", OTHER_ID, name="redis-demo", old_name="x"), True),
        (ContainerEvent("rename", OTHER_ID, name="x", old_name="redis-demo"), True),
        (ContainerEvent("create", OTHER_ID, name="redis-demo"), True),
        (ContainerEvent("start", OTHER_ID, name="redis-demo-2"), False),
        (ContainerEvent("connect", OTHER_ID), False),
    ],
)
def test_only_events_of_the_container_or_its_name_concern_us(heard: ContainerEvent, expected: bool) -> None:
    assert concerns(running(), heard, WISH) is expected


MOVED = replace(UP, address=Address("10.1.2.3", 49160))
RENAMED = replace(UP, id="redis-new")
REFUSED = Refusal(Reason.NOT_RUNNING, "it is gone")


@pytest.mark.parametrize(
    ("want", "held", "steps"),
    [
        (UP, None, [Action(Do.HOLD, UP)]),
        (UP, UP, []),
        (LEAVING, UP, [Action(Do.HOLD, LEAVING)]),
        (UP, LEAVING, [Action(Do.HOLD, UP)]),
        (MOVED, UP, [Action(Do.HOLD, MOVED)]),
        (RENAMED, UP, [Action(Do.RELEASE, UP), Action(Do.HOLD, RENAMED)]),
        (REFUSED, UP, [Action(Do.RELEASE, UP)]),
        (REFUSED, None, []),
    ],
)
def test_plan_leads_from_what_is_held_to_what_is_wanted(
    want: Instance | Refusal, held: Instance | None, steps: list[Action]
) -> None:
    assert list(plan(want, held)) == steps


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15", 15),
        ("SIGTERM", 15),
        ("term", 15),
        ("RTMIN+3", 37),
        ("RTMAX-1", 63),
        ("", None),
        ("TERM+x", None),
        ("?", None),
    ],
)
def test_signals_are_read_as_docker_writes_them(text: str, number: int | None) -> None:
    assert signal_number(text) == number


# One record, correct, whatever the order of events: a true container lives through a random history; the observer gets
# its events late, doubled, out of order or not at all, and inspects at moments of its own. After a final inspection and
# the grace, what it wants is what a fresh observer would want, and executing its plans leads exactly there.

steps = st.lists(
    st.one_of(
        st.sampled_from(
            ["start", "die", "TERM", "HUP", "pause", "unpause", "recreate", "unhealthy", "healthy", "port"]
        ),
        st.just("inspect"),
        st.tuples(st.just("deliver"), st.integers(0, 30)),
    ),
    max_size=40,
)


class Truth:
    """A container as the daemon knows it."""

    def __init__(self) -> None:
        self.clock = 1_800_000_000
        self.generation = 0
        self.port = 40000
        self.running = self.paused = False
        self.health = ""
        self.started = 0
        self.history: list[ContainerEvent] = []

    def do(self, what: str) -> None:
        self.clock += 1
        match what:
            case "start" if not self.running:
                self.running, self.started, self.port = True, self.clock, self.port + 1
            case "die" | "recreate":
                self.running = self.paused = False
            case "pause" | "unpause":
                self.paused = self.running and what == "pause"
            case "healthy" | "unhealthy":
                self.health = what
            case "port":
                self.port += 1
        action, number = ("kill", {"TERM": "15", "HUP": "1"}[what]) if what in ("TERM", "HUP") else (what, "")
        self.history.append(ContainerEvent(action, self.identity, "redis-demo", signal=number, time=self.clock * 10**9))
        if what == "recreate":
            self.generation += 1

    @property
    def identity(self) -> str:
        return f"{self.generation:064x}"

    def inspected(self) -> dict[str, Any]:
        return container(
            *([binding(port=self.port)] if self.running else []),
            identity=self.identity,
            started="2027-01-15T08:00:00Z" if not self.started else _rfc3339(self.started),
            state={
                "Running": self.running,
                "Paused": self.paused,
                "Status": "running" if self.running else "exited",
                "Health": {"Status": self.health},
            },
        )


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@settings(max_examples=400, deadline=None)
@given(steps)
def test_one_record_and_correct_whatever_the_order_of_events(history: list[Any]) -> None:
    view: View[Verdict] = View()
    truth, held, now = Truth(), None, NOW
    for what in history:
        if what == "inspect":
            view = see(view, truth.inspected(), WISH, HOST)
        elif isinstance(what, tuple):
            if truth.history:
                view = hear(view, truth.history[what[1] % len(truth.history)], now)
        else:
            truth.do(what)
        held = carried_out(plan(wanted(view, now), held), held)
        now += 0.1
    view = see(view, truth.inspected(), WISH, HOST)
    now += GRACE
    held = carried_out(plan(wanted(view, now), held), held)
    fresh = extract(truth.inspected(), WISH, HOST)
    assert held == (fresh if isinstance(fresh, Instance) else None)


def carried_out(actions: tuple[Action, ...], held: Instance | None) -> Instance | None:
    """What the registry holds after these; that no two records are ever held at once is checked on the way."""
    for action in actions:
        if action.do is Do.HOLD:
            assert held is None or (held.service, held.id) == (action.instance.service, action.instance.id)
            held = action.instance
        else:
            assert held == action.instance
            held = None
    return held


@settings(max_examples=200, deadline=None)
@given(st.permutations(["kill", "die", "start", "inspect"]), st.booleans())
def test_a_restart_seen_in_any_order_ends_at_the_new_port(order: list[str], doubled: bool) -> None:
    """`docker restart`: kill, die and start of the old and new run, in every order around the inspection."""
    view = running()
    after = {"kill": 10, "die": 20, "start": 60 * 10**9}
    new = container(binding(port=49160), started="2026-01-02T03:05:05.123456789Z")
    for what in order * (2 if doubled else 1):
        if what == "inspect":
            view = see(view, new, WISH, HOST)
        else:
            view = hear(view, event(what, after=after[what], signal="15"), NOW)
        want = wanted(view, NOW)
        assert not isinstance(want, Instance) or want.address.port in (49155, 49160)
    if order[-1] != "inspect" and not doubled:
        view = see(view, new, WISH, HOST)
    want = wanted(view, NOW)
    assert isinstance(want, Instance)
    assert str(want.address) == "10.1.2.3:49160"
    assert want.readiness is Readiness.UP


def test_a_stopped_container_is_not_wanted() -> None:
    assert reason(see(View(), stopped(), WISH, HOST)) is Reason.NOT_RUNNING


def test_signals_that_terminate_are_the_ones_people_send() -> None:
    assert signal_number("TERM") == signal.SIGTERM
