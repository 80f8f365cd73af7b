"""What a worker has told its parent of a route's instances, and what is new since."""

from __future__ import annotations

from ambnet.relay.protocol import InstanceStats, ServiceStats
from ambnet.relay.route import Route
from ambnet.relay.upstream import Traffic


class Accounts:
    """One route's numbers, told as differences: a service of 10,000 instances would take 50 ms of each second else."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._told: set[str] = set()
        self._ejected: frozenset[str] = frozenset()

    def news(self, now: float, parked: int) -> ServiceStats:
        """What has changed since the last call, which has to reach the parent."""
        route = self._route
        if route.departed:
            route.forget()
        ejected = frozenset(upstream.id for upstream in route.ejected(now))
        turned = ejected ^ self._ejected
        instances = {}
        for name, traffic in route.traffic.items():
            if traffic.changed or name in turned:
                traffic.changed = False
                instances[name] = _numbers(traffic, name in ejected)
        gone = tuple(self._told - route.traffic.keys())
        self._told.difference_update(gone)
        self._told.update(instances)
        self._ejected = ejected
        return ServiceStats(parked, route.counters, instances, gone)


def _numbers(traffic: Traffic, ejected: bool) -> InstanceStats:
    return InstanceStats(
        connections=traffic.connections,
        connections_total=traffic.connections_total,
        connect_failures=traffic.connect_failures,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        ejected=ejected,
    )
