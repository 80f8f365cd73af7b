"""The order of things: rounds over workloads over subjects, and what is said meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from bench.hosts import CannotRunError
from bench.machine import settle
from bench.results import Record
from bench.rounds import Sample
from bench.subjects import Subject
from bench.visit import Effort, Workload

PATIENCE = 2


def run(
    workloads: Sequence[Workload], subjects: Sequence[Subject], effort: Effort, rounds: int, record: Record
) -> None:
    """A B C A B C: in every round each workload visits each subject, one after the other.

    A visit that fails is put down with its reason, and the run goes on; after `PATIENCE` of them a subject is left out
    of that workload.
    """
    for number in range(1, rounds + 1):
        for workload in workloads:
            if workload.rounds is not None and number > workload.rounds:
                continue
            for subject in subjects:
                if subject.rounds is not None and number > subject.rounds:
                    continue
                if subject.name in workload.subjects and _bearable(record, workload, subject):
                    say(f"round {number}/{rounds}  {workload.name:<10} {subject.name:<13}", end="")
                    _visit(workload, subject, effort, number, record)


def _bearable(record: Record, workload: Workload, subject: Subject) -> bool:
    return len(record.missing.get((workload.name, subject.name), ())) < PATIENCE


def _visit(workload: Workload, subject: Subject, effort: Effort, number: int, record: Record) -> None:
    started = time.monotonic()
    record.visits += 1
    record.restless += not settle()
    figures = []
    try:
        for figure in workload.measure(subject, effort):
            figures.append(f"{figure.workload}.{figure.metric} {figure.value:.5g}")
            record.samples.append(
                Sample(number, figure.workload, subject.name, figure.metric, figure.unit, figure.value)
            )
    except (CannotRunError, OSError, ValueError, LookupError) as failure:  # programs that end, answers that are odd
        reason = str(failure) if isinstance(failure, CannotRunError) else repr(failure)
        record.missing.setdefault((workload.name, subject.name), []).append(reason)
        figures.append(f"FAILED: {reason}")
    say(f"{time.monotonic() - started:5.1f} s  {'  '.join(figures)}")


def say(text: str, end: str = "\n") -> None:
    """Progress, on stderr."""
    sys.stderr.write(text + end)
    sys.stderr.flush()
