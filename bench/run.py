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


def run(
    workloads: Sequence[Workload], subjects: Sequence[Subject], effort: Effort, rounds: int, record: Record
) -> None:
    """A B C A B C: in every round each workload visits each subject, one after the other.

    A subject that cannot run is put down with its reason and left out of that workload from then on.
    """
    for number in range(1, rounds + 1):
        for workload in workloads:
            if workload.rounds is not None and number > workload.rounds:
                continue
            for subject in subjects:
                if subject.name in workload.subjects and (workload.name, subject.name) not in record.missing:
                    say(f"round {number}/{rounds}  {workload.name:<10} {subject.name:<13}", end="")
                    _visit(workload, subject, effort, number, record)


def _visit(workload: Workload, subject: Subject, effort: Effort, number: int, record: Record) -> None:
    started = time.monotonic()
    settle()
    figures = []
    try:
        for figure in workload.measure(subject, effort):
            figures.append(f"{figure.workload}.{figure.metric} {figure.value:.5g}")
            record.samples.append(
                Sample(number, figure.workload, subject.name, figure.metric, figure.unit, figure.value)
            )
    except CannotRunError as reason:
        record.missing[workload.name, subject.name] = str(reason)
        figures.append(f"MISSING: {reason}")
    say(f"{time.monotonic() - started:5.1f} s  {'  '.join(figures)}")


def say(text: str, end: str = "\n") -> None:
    """Progress, on stderr."""
    sys.stderr.write(text + end)
    sys.stderr.flush()
