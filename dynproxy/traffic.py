"""Sums of what workers say they carried. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ambnet.relay.protocol import UDP, InstanceStats, ServiceStats, Stats


def closed(stats: Stats) -> Stats:
    """What remains of a worker that ended: its totals, and nothing open."""
    return Stats(
        0,
        {
            name: ServiceStats(
                0,
                service.counters,
                {
                    instance: InstanceStats(
                        connections_total=item.connections_total,
                        connect_failures=item.connect_failures,
                        bytes_in=item.bytes_in,
                        bytes_out=item.bytes_out,
                    )
                    for instance, item in service.instances.items()
                },
            )
            for name, service in stats.services.items()
        },
    )


def total(every: Iterable[Stats]) -> dict[str, ServiceStats]:
    """What several workers carried together, by service: its routes for connections and for datagrams are one."""
    result: dict[str, ServiceStats] = {}
    for stats in every:
        for route, service in stats.services.items():
            name = route.removesuffix(UDP)
            result[name] = _add(result.get(name, ServiceStats()), service)
    return result


def _add(one: ServiceStats, other: ServiceStats) -> ServiceStats:
    instances = dict(one.instances)
    for name, item in other.instances.items():
        if name not in instances:
            instances[name] = item
            continue
        known = instances[name]
        instances[name] = InstanceStats(
            connections=known.connections + item.connections,
            connections_total=known.connections_total + item.connections_total,
            connect_failures=known.connect_failures + item.connect_failures,
            bytes_in=known.bytes_in + item.bytes_in,
            bytes_out=known.bytes_out + item.bytes_out,
            ejected=known.ejected or item.ejected,
        )
    names = {**one.counters, **other.counters}  # zeros are kept: a counter exists before it first counts
    counters = {name: one.counters.get(name, 0) + other.counters.get(name, 0) for name in names}
    return ServiceStats(one.parked + other.parked, counters, instances)
