"""Sums of what workers say they carried. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    names = {**one.counters, **other.counters}  # zeros are kept: a counter exists before it first counts
    counters = {name: one.counters.get(name, 0) + other.counters.get(name, 0) for name in names}
    return ServiceStats(one.parked + other.parked, counters, _united(one.instances, other.instances))


def _united(some: Mapping[str, InstanceStats], others: Mapping[str, InstanceStats]) -> Mapping[str, InstanceStats]:
    """The sum of both by instance. With one worker that is its own dictionary: ten thousand entries need no copy."""
    if not some:
        return others
    result = dict(some)
    for name, item in others.items():
        known = result.get(name)
        result[name] = item if known is None else _sum(known, item)
    return result


def _sum(one: InstanceStats, other: InstanceStats) -> InstanceStats:
    return InstanceStats(
        connections=one.connections + other.connections,
        connections_total=one.connections_total + other.connections_total,
        connect_failures=one.connect_failures + other.connect_failures,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        ejected=one.ejected or other.ejected,
    )
