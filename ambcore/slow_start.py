"""Slow start: an instance that has just come, or come back, gets a growing share of the new connections.

From a tenth of its weight to all of it, a tenth at a time. A share is relative, so while one is starting the weights of
all others grow as far as a weight may, lest a tenth be no whole number. HAProxy's `slowstart` is the model.
"""

from __future__ import annotations

from dataclasses import replace

from ambcore.model import MAX_WEIGHT, Address, Instance

TENTHS = 10
STEP = 1.0  # seconds between two changes of weights, at least: each is a transaction in the kernel
ROUNDING = 1e-9  # of a step: who looks again when a step is due must not find it due in no time

Key = tuple[str, Address]  # an instance's id and where it answers


class SlowStart:
    """Who is starting, among the instances of one service. `seconds` is how long a start takes, 0 for no such thing.

    Times are of any clock that only goes forward.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._well: set[Key] | None = None  # None before the first look
        self._began: dict[Key, float] = {}
        self._made: dict[Key, tuple[Instance, Instance]] = {}  # from the record's instance, one of another weight

    def eased(self, instances: tuple[Instance, ...], unhealthy: frozenset[str], now: float) -> tuple[Instance, ...]:
        """The same instances with the weights that they have now; those of an earlier look that did not change are the
        same objects. Who is there and well at the first look has not just come.
        """
        if not self._seconds:
            return instances
        well = {(item.id, item.address) for item in instances if item.id not in unhealthy}
        came = well - self._well if self._well is not None else ()
        began = {**self._began, **dict.fromkeys(came, now)}
        self._began = {key: when for key, when in began.items() if key in well and self._tenths(when, now) < TENTHS}
        self._well = well
        if not self._began:
            self._made.clear()
            return instances
        scale = max(1, min(TENTHS, MAX_WEIGHT // max(item.weight for item in instances)))
        made = {(item.id, item.address): (item, self._weighed(item, scale, now)) for item in instances}
        self._made = made
        return tuple(eased for _, eased in made.values())

    def rest(self, now: float) -> float | None:
        """Seconds until the weights are to change again; None if they stay."""
        if not self._began:
            return None
        part = self._seconds / (TENTHS - 1)
        return max(STEP, min(when + part * self._tenths(when, now) - now for when in self._began.values()))

    def share(self, instance: Instance, now: float) -> float:
        """The part of its weight that an instance has, 0.1 to 1."""
        began = self._began.get((instance.id, instance.address))
        return 1.0 if began is None else self._tenths(began, now) / TENTHS

    def _weighed(self, item: Instance, scale: int, now: float) -> Instance:
        weight = max(1, round(item.weight * scale * self.share(item, now)))
        known, made = self._made.get((item.id, item.address), (None, item))
        return made if known is item and made.weight == weight else replace(item, weight=weight)

    def _tenths(self, began: float, now: float) -> int:
        """From 1 at the beginning to all of them at the end, evenly."""
        return min(TENTHS, 1 + int((TENTHS - 1) * (now - began) / self._seconds + ROUNDING))
