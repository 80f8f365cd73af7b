"""Which instances have metrics of their own: so many, and one sum a service for all others. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ambnet.relay.protocol import InstanceStats

MOST = 500  # five series each: 20 ms of a scrape, however large the fleet is
OTHERS = "all others"  # no instance has a blank in its name

Key = tuple[str, str]  # service, instance
NOTHING = InstanceStats()


class Series:
    """Bounds what a metric's labels can be. One that began among the others stays there, so that no counter goes back.

    `take` is told all numbers there are each time, and gives those that are shown.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._own: set[Key] = set()
        self._seen: dict[Key, InstanceStats] = {}  # of the others, when they were last looked at
        self._sums: dict[str, InstanceStats] = {}  # of the others, those that are gone included

    def take(self, numbers: Mapping[Key, InstanceStats]) -> dict[Key, InstanceStats]:
        """The same, with all beyond the most summed up by service."""
        self._own &= numbers.keys()
        shown: dict[Key, InstanceStats] = {}
        others: dict[Key, InstanceStats] = {}
        for key, item in numbers.items():
            if key in self._own or (key not in self._seen and len(self._own) < self._most):
                self._own.add(key)
                shown[key] = item
            else:
                others[key] = item
        self._add(others)
        return shown | {(service, OTHERS): item for service, item in self._sums.items()}

    def _add(self, others: Mapping[Key, InstanceStats]) -> None:
        """Add what is new of the others to the sums; what is open is counted anew."""
        sums = {service: [0, *_counted(before)] for service, before in self._sums.items()}
        for key, item in others.items():
            total = sums.setdefault(key[0], [0, 0, 0, 0, 0])
            total[0] += item.connections
            seen = self._seen.get(key, NOTHING)
            if item is not seen:
                for at, (now, then) in enumerate(zip(_counted(item), _counted(seen), strict=True), 1):
                    total[at] += max(0, now - then)  # less than before: a worker was lost, and what it counted
        self._sums = {service: _stats(*total) for service, total in sums.items()}
        self._seen = dict(others)


def _counted(item: InstanceStats) -> tuple[int, int, int, int]:
    return item.connections_total, item.connect_failures, item.bytes_in, item.bytes_out


def _stats(connections: int, total: int, failures: int, bytes_in: int, bytes_out: int) -> InstanceStats:
    return InstanceStats(connections, total, failures, bytes_in, bytes_out)
