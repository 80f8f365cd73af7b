"""What a worker has told its parent of a route's instances, and what is new since."""

from __future__ import annotations

from ambnet.relay.protocol import InstanceStats, ServiceStats
from ambnet.relay.route import Route
from ambnet.relay.upstream import Traffic


class Accounts:
    """One route's numbers, told as differences: what is idle costs nothing, however much there is of it."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._ejected: frozenset[str] = frozenset()

    def news(self, now: float, parked: int) -> ServiceStats:
        """What has changed since the last call, which has to reach the parent."""
        route = self._route
        route.forget()
        ejected = frozenset(upstream.id for upstream in route.ejected(now))
        for name in ejected ^ self._ejected:
            if name in route.traffic:
                route.traffic[name].changed()
        self._ejected = ejected
        instances = {name: _numbers(traffic, name in ejected) for name, traffic in route.news.items()}
        route.news.clear()
        gone = tuple(name for name in route.gone if name not in route.traffic)
        route.gone.clear()
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
