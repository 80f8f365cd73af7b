"""Mixed load through all of it while faults come at random; `make soak` runs the same for hours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.run import Order, Outcome, soak

pytestmark = [pytest.mark.etcd, pytest.mark.docker, pytest.mark.netns, pytest.mark.system]

QUICK = ("instance-killed", "rules-flushed", "relay-worker-killed")


def said(outcome: Outcome) -> str:
    done = sum(count for name, count in outcome.counts.items() if name.endswith(" ok"))
    return (
        f"{len(outcome.events)} faults in {outcome.seconds:.0f} s, {done} exchanges, {len(outcome.failures)} failed, "
        f"{len(outcome.unexplained)} of them unexplained"
    )


def test_C30_soak_of_a_few_faults(tmp_path: Path, figure: Callable[[str], None]) -> None:
    outcome = soak(Order(seconds=300, seed=30, faults=QUICK, pairs=1, every=4, most=len(QUICK)), tmp_path)
    figure(said(outcome))
    assert outcome.problems == []
    assert {event.name for event in outcome.events} == set(QUICK)


@pytest.mark.long
def test_C30_soak(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Six minutes of it with every fault in the deck; slopes over so short a time are let pass up to 3 MiB."""
    outcome = soak(Order(seconds=360, seed=30), tmp_path)
    figure(said(outcome))
    figure(
        "memory, MiB an hour: "
        + ", ".join(f"{name} {found.slope / 1024:+.1f}" for name, found in outcome.courses.items())
    )
    assert outcome.problems == []
