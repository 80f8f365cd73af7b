"""Sums over workers, dead ones included."""

from __future__ import annotations

from ambnet.relay.protocol import InstanceStats, ServiceStats, Stats
from dynproxy.traffic import closed, total

ONE = Stats(3, {"a": ServiceStats(1, {"refused": 2}, {"x": InstanceStats(2, 10, 1, 100, 200, ejected=True)})})
OTHER = Stats(1, {"a": ServiceStats(0, {"refused": 1, "parked": 4}, {"x": InstanceStats(1, 5, 0, 10, 20)})})


def test_counters_and_instances_add_up_by_name() -> None:
    summed = total([ONE, OTHER])["a"]
    assert summed.parked == 1
    assert summed.counters == {"refused": 3, "parked": 4}
    assert summed.instances == {"x": InstanceStats(3, 15, 1, 110, 220, ejected=True)}


def test_datagrams_and_connections_of_a_service_are_one() -> None:
    """Instances united, counters added: nobody who asks about a service asks about its routes."""
    both = Stats(
        0,
        {
            "dns": ServiceStats(2, {"accepted": 1, "reset": 0}, {"tcp": InstanceStats(1, 2, 3, 4, 5)}),
            "dns/udp": ServiceStats(0, {"udp_sessions": 7, "reset": 0}, {"udp": InstanceStats(7, 8, 9, 10, 11)}),
        },
    )
    summed = total([both, both])
    assert list(summed) == ["dns"]
    assert summed["dns"].parked == 4
    assert summed["dns"].counters == {"accepted": 2, "reset": 0, "udp_sessions": 14}
    assert summed["dns"].instances == {
        "tcp": InstanceStats(2, 4, 6, 8, 10),
        "udp": InstanceStats(14, 16, 18, 20, 22),
    }


def test_the_instances_of_a_single_worker_are_not_copied() -> None:
    """Ten thousand are asked for with every sample, whether or not anything has happened."""
    assert total([ONE])["a"].instances is ONE.services["a"].instances


def test_nothing_sums_to_nothing() -> None:
    assert total([]) == {}


def test_dead_worker_leaves_its_totals_and_nothing_open() -> None:
    """A counter that went backwards would read as a restart of everything."""
    left = closed(ONE).services["a"]
    assert left.parked == 0
    assert left.counters == {"refused": 2}
    assert left.instances == {"x": InstanceStats(0, 10, 1, 100, 200, ejected=False)}
