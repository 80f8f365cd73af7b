"""A fault excuses what was open in its way at that moment, and nothing else."""

from __future__ import annotations

import pytest

from tests.soak.judging import Excuse, Failure, sort_out

KILL = Excuse(since=100.0, until=100.0, instances=frozenset({"web-a1"}))


def failure(
    begun: float, ended: float, instance: str | None = "web-a1", load: str = "long", kind: str = "reset"
) -> Failure:
    return Failure(load, "kernel-1", kind, instance, begun, ended, "")


@pytest.mark.parametrize(
    ("failed", "covered"),
    [
        (failure(90, 100.01), True),
        (failure(90, 115), True),  # it was open then, and is found out late
        (failure(99.99, 100.3, instance=None), True),  # it was on its way to somebody
        (failure(90, 100.01, instance="web-b1"), False),
        (failure(100.2, 100.3), False),
        (failure(100.2, 100.3, instance=None), False),
        (failure(80, 99), False),
        (failure(90, 100.01, load="udp"), False),
        (failure(90, 100.01, kind="corrupt"), False),
    ],
)
def test_what_a_killed_instance_excuses(failed: Failure, covered: bool) -> None:
    assert KILL.covers(failed) is covered


def test_a_fault_of_a_proxy_excuses_its_own_clients_alone() -> None:
    restart = Excuse(since=100.0, until=100.0, proxy="relay-2")
    assert not restart.covers(failure(90, 100.01))
    assert Excuse(since=100.0, until=100.0, proxy="kernel-1").covers(failure(90, 100.01))


def test_a_restart_of_the_kernels_relay_excuses_what_it_took_while_there_were_no_rules() -> None:
    restart = Excuse(since=100.0, until=100.0, proxy="kernel-1", begun=(70.0, 80.0))
    assert restart.covers(failure(70.4, 105.0))
    assert not restart.covers(failure(81.0, 105.0))
    assert not restart.covers(failure(70.4, 75.0))


def test_each_failure_is_explained_once_and_what_nobody_explains_is_left() -> None:
    earlier = Excuse(since=50.0, until=50.0, proxy="kernel-1")
    failures = [failure(40, 120), failure(90, 100.01), failure(101, 102)]
    assert sort_out(failures, [[earlier], [KILL], []]) == ([0, 2, 0], [failures[2]])
