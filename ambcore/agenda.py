"""Who is due next, and how fast they may come."""

from __future__ import annotations

import heapq
import math
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Agenda(Generic[T]):
    """Items with the time at which each is due; an item is in it once. Items are hashable and can be ordered."""

    __slots__ = ("_due", "_heap")

    def __init__(self) -> None:
        self._due: dict[T, float] = {}
        self._heap: list[tuple[float, Any]] = []  # may hold entries that `_due` no longer confirms

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, item: T) -> bool:
        return item in self._due

    def put(self, item: T, due: float) -> None:
        """Note an item, or move it to another time."""
        if self._due.get(item) != due:
            self._due[item] = due
            heapq.heappush(self._heap, (due, item))

    def drop(self, item: T) -> None:
        """Forget an item; one that is not in it is fine."""
        self._due.pop(item, None)

    def pop(self, now: float) -> T | None:
        """Take out the item that has been due the longest; None if nothing is due."""
        if self.next_due() > now:
            return None
        item: T = heapq.heappop(self._heap)[1]
        del self._due[item]
        return item

    def next_due(self) -> float:
        """When the first is due; infinity if there is none."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf


class Pace:
    """At most `rate` a second over any longer time, and `burst` at once after a pause.

    The generic cell rate algorithm (ITU-T I.371): one number says when the next is expected.
    """

    __slots__ = ("_expected", "_gap", "_slack")

    def __init__(self, rate: float, burst: int = 1) -> None:
        self._gap = 1.0 / rate
        self._slack = (burst - 1) * self._gap
        self._expected = -math.inf

    def ready(self) -> float:
        """When the next may come; a time long past means at once."""
        return self._expected - self._slack

    def take(self, now: float) -> None:
        """Count one that comes now."""
        self._expected = max(self._expected, now) + self._gap
