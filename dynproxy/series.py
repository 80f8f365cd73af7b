"""Which instances have metrics of their own: so many, and one sum a service for all others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ambnet.relay.protocol import InstanceStats

MOST = 1000  # five series each: as much as a scrape of a busy host, and no more however large the fleet is
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
        sums = {service: replace(before, connections=0) for service, before in self._sums.items()}
        for key, item in others.items():
            sums[key[0]] = _sum(sums.get(key[0], NOTHING), self._seen.get(key, NOTHING), item)
        self._sums, self._seen = sums, dict(others)


def _sum(total: InstanceStats, seen: InstanceStats, now: InstanceStats) -> InstanceStats:
    """The total with what happened between two looks; of a worker's loss it takes no notice."""
    return InstanceStats(
        connections=total.connections + now.connections,
        connections_total=total.connections_total + max(0, now.connections_total - seen.connections_total),
        connect_failures=total.connect_failures + max(0, now.connect_failures - seen.connect_failures),
        bytes_in=total.bytes_in + max(0, now.bytes_in - seen.bytes_in),
        bytes_out=total.bytes_out + max(0, now.bytes_out - seen.bytes_out),
    )
