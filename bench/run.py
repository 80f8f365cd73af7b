"""The order of things: rounds over workloads over subjects, and what is said meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.hosts import CannotRunError
from bench.machine import settle
from bench.results import Record
from bench.rounds import Sample
from bench.subjects import Subject
from bench.visit import Effort, Figure, Steps, Workload

PATIENCE = 2


def run(
    workloads: Sequence[Workload], subjects: Sequence[Subject], effort: Effort, rounds: int, record: Record
) -> None:
    """A B C, C B A: in every round each workload visits each subject in turn, in the next one the other way.

    Whom a visit follows matters a little: caches, and a host that gives more to who has rested. A visit that fails is
    put down with its reason, and the run goes on; after `PATIENCE` of them a subject is left out of that workload.
    """
    for number in range(1, rounds + 1):
        for workload in workloads:
            if workload.rounds is not None and number > workload.rounds:
                continue
            visited = [subject for subject in subjects if _takes_part(subject, workload, number, record)]
            if number % 2 == 0:
                visited.reverse()
            for together in [visited] if workload.in_turns else [[subject] for subject in visited]:
                say(f"round {number}/{rounds}  {workload.name}: {', '.join(subject.name for subject in together)}")
                _visit(workload, together, effort, number, record)


def _takes_part(subject: Subject, workload: Workload, number: int, record: Record) -> bool:
    if subject.rounds is not None and number > subject.rounds:
        return False
    failed = record.missing.get((workload.name, subject.name), ())
    return subject.name in workload.subjects and len(failed) < PATIENCE


@dataclass
class _Visit:
    """One under way: what is left of it, and what it has found."""

    subject: Subject
    steps: Steps
    figures: list[Figure] = field(default_factory=list)
    seconds: float = 0.0

    def goes_on(self) -> bool:
        """Take it to before its next piece; whether there is one. Raises what `Workload.measure` does."""
        started = time.monotonic()
        try:
            for step in self.steps:
                if step is None:
                    return True
                self.figures.append(step)
            return False
        finally:
            self.seconds += time.monotonic() - started


def _visit(workload: Workload, subjects: Sequence[Subject], effort: Effort, number: int, record: Record) -> None:
    """A visit to each, side by side: a piece of each in turn, then the other way."""
    record.visits += 1
    record.restless += not settle()
    with contextlib.ExitStack() as stack:
        steps = (stack.enter_context(contextlib.closing(workload.measure(subject, effort))) for subject in subjects)
        under_way = [_Visit(*visit) for visit in zip(subjects, steps, strict=True)]
        while under_way:
            for visit in under_way.copy():
                reason = None
                try:
                    if visit.goes_on():
                        continue
                except (CannotRunError, OSError, ValueError, LookupError) as failure:  # it ended, or answers oddly
                    reason = str(failure) if isinstance(failure, CannotRunError) else repr(failure)
                under_way.remove(visit)
                _put_down(visit, workload, number, record, reason)
            under_way.reverse()


def _put_down(visit: _Visit, workload: Workload, number: int, record: Record, failure: str | None) -> None:
    name = visit.subject.name
    record.samples += (
        Sample(number, figure.workload, name, figure.metric, figure.unit, figure.value) for figure in visit.figures
    )
    said = [f"{figure.workload}.{figure.metric} {figure.value:.5g}" for figure in visit.figures]
    if failure is not None:
        record.missing.setdefault((workload.name, name), []).append(failure)
        said.append(f"FAILED: {failure}")
    say(f"  {name:<13}{visit.seconds:5.1f} s  {'  '.join(said)}")


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
