"""One soak: faults from a shuffled deck while the load goes on, each undone and the scene right before the next."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import faults_of_etcd, faults_of_instances, faults_of_ours
from tests.soak.client import PATIENCE
from tests.soak.done import FAULTS
from tests.soak.judging import Excuse, Failure, sort_out
from tests.soak.levels import Course, complaints, course
from tests.soak.oracle import wait_right
from tests.soak.sampler import Sampler
from tests.soak.scene import Scene, stage

REGISTERED = (faults_of_etcd, faults_of_instances, faults_of_ours)
CALM = 3.0  # seconds between two faults in any case
WARM_UP, WARM_UP_MOST = 0.15, 600.0  # of the run, seconds: memory is judged after that at the earliest
BAD = re.compile(r"exception was never retrieved|Traceback|^CRITICAL", re.MULTILINE)


class StopAskedError(Exception):
    """Somebody wants it to end now: what was seen so far is judged all the same."""


@dataclass(frozen=True)
class Order:
    """What is asked for: how many seconds, from which seed, which faults, how many of each program.

    `every` is how many seconds there are from one fault's beginning to the next one's, or more if it takes longer.
    After `most` faults it is over.
    """

    seconds: float
    seed: int
    faults: Sequence[str] = ()
    pairs: int = 2
    every: float = 30.0
    most: int | None = None

    def deck(self, lot: random.Random) -> Iterator[str]:
        """Endless: all faults in an order drawn by lot, and again."""
        while True:
            names = sorted(self.faults or FAULTS)
            lot.shuffle(names)
            yield from names


@dataclass
class Event:
    """A fault that was injected. Moments are on the monotonic clock; `right` is how long after its end all was well."""

    name: str
    to: str
    began: float
    took: float
    right: float
    excuses: Sequence[Excuse] = ()
    explained: int = 0
    slowest: float = 0.0


@dataclass
class Outcome:
    """What a run came to. `problems` are the reasons why it failed: none, if it held."""

    order: Order
    started: float
    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unexplained: list[Failure] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    steady: set[str] = field(default_factory=set)
    logs: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def soak(order: Order, folder: Path) -> Outcome:
    """Run it. Whatever happens, everything that was started is gone on return."""
    with stage(folder, pairs=order.pairs) as scene:
        outcome = Outcome(order, time.monotonic())
        with Sampler(scene) as sampler:
            try:
                wait_right(scene)
                _inject(scene, order, outcome)
                scene.load.finish()
            except AssertionError as error:
                outcome.problems.append(str(error))
            except StopAskedError as asked:
                outcome.problems.append(f"stopped early: {asked}")
        outcome.seconds = time.monotonic() - outcome.started
        _judge(scene, sampler, outcome)
    return outcome


def _inject(scene: Scene, order: Order, outcome: Outcome) -> None:
    lot = random.Random(order.seed)
    end = outcome.started + order.seconds
    for name in order.deck(lot):
        began = time.monotonic()
        if began + CALM > end or len(outcome.events) == order.most:
            return
        done = FAULTS[name](scene, lot)
        took = time.monotonic() - began
        event = Event(name, done.to, began, took, 0.0, done.excuses)
        outcome.events.append(event)
        event.right = wait_right(scene)
        _alive(scene)
        say(f"{began - outcome.started:6.0f} s  {name} ({done.to}): {took:.1f} s, right {event.right:.1f} s later; "
            f"{scene.load.counts_in_all()}; {len(scene.load.failures)} failed")  # fmt: skip
        time.sleep(max(CALM, min(began + order.every, end) - time.monotonic()))


def _alive(scene: Scene) -> None:
    assert scene.load.alive, "the load has ended"
    for program in scene.ours.values():
        code = program.program.process.poll()
        assert code is None, f"{program.name} has ended with {code}: {program.program.log[-2000:]}"


def _judge(scene: Scene, sampler: Sampler, outcome: Outcome) -> None:
    outcome.failures, outcome.counts = list(scene.load.failures), dict(scene.load.counts)
    explained, outcome.unexplained = sort_out(outcome.failures, [event.excuses for event in outcome.events])
    for event, number in zip(outcome.events, explained, strict=True):
        event.explained = number
        until = event.began + event.took + PATIENCE
        event.slowest = max(
            (slow["took"] for slow in scene.load.slow if event.began < slow["begun"] < until), default=0.0
        )
    outcome.problems += [_unexplained(outcome, failure) for failure in outcome.unexplained]
    after = _warm(outcome)
    if sampler.failure is not None:
        outcome.problems.append(f"nobody measured memory, files and tasks to the end: {sampler.failure!r}")
    for name, samples in sampler.samples.items():
        if (found := course(samples, after)) is not None:
            outcome.courses[name] = found
            if any(name.startswith(each.name) and each.steady for each in scene.ours.values()):
                outcome.steady.add(name)
                outcome.problems += complaints(name, found)
    for name, program in scene.ours.items():
        outcome.logs[name] = "".join(life.log for life in program.lives)
        outcome.problems += [f"{name} says {line!r}" for line in outcome.logs[name].splitlines() if BAD.search(line)]


def _unexplained(outcome: Outcome, failure: Failure) -> str:
    """For people, in seconds of the run."""
    before = [event for event in outcome.events if event.began <= failure.ended]
    fault = f"{before[-1].name} ({before[-1].to}) at {before[-1].began - outcome.started:.1f} s" if before else "none"
    return (
        f"unexplained: {failure.load} through {failure.proxy} with {failure.instance or 'nobody yet'}: "
        f"{failure.kind} at {failure.ended - outcome.started:.1f} s, {failure.ended - failure.begun:.1f} s old; "
        f"{failure.detail}; the last fault: {fault}"
    )


def _warm(outcome: Outcome) -> float:
    """The moment from which memory has to be level: each fault has been there once, if that leaves half of the run."""
    earliest = outcome.started + min(WARM_UP_MOST, WARM_UP * outcome.seconds)
    names = set(outcome.order.faults or FAULTS)
    for event in outcome.events:
        names.discard(event.name)
        ended = event.began + event.took + event.right
        if not names and ended < outcome.started + outcome.seconds / 2:
            return max(earliest, ended)
    return earliest


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
