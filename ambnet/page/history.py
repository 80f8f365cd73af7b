"""Counters over the last fifteen minutes, and rates from one look to the next. The caller brings the clock."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

STEP = 15.0  # seconds between two samples
KEPT = 60  # differences shown: fifteen minutes
MOST = 500  # services with a history, 2 KiB each
FIELDS = 4
UNKNOWN = -1.0  # before the first sample of a service, and while nobody looked
WINDOW = 4.0  # seconds that a rate is taken over: the relay's workers tell their numbers once a second
SHORTEST = 0.9
LONG = 30.0  # seconds without a look after which the next is a first one


Rate = Callable[[object], tuple[float, ...]]  # what each counter of a key gains a second; empty while not known

LOST = ("park_expired", "park_refused", "local_errors")  # the relay's counters of clients that nobody was asked for


class Counts(NamedTuple):
    """What a service carried: connections open now; begun, bytes and failures so far."""

    active: float
    begun: float
    bytes: float
    failed: float


NOTHING = Counts(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Series:
    """The last fifteen minutes of a service, oldest first, one value a step, None where it is not known: connections
    open, and begun, bytes and failures a second.
    """

    active: tuple[float | None, ...]
    begun: tuple[float | None, ...]
    bytes: tuple[float | None, ...]
    failed: tuple[float | None, ...]


class Totals:
    """Counters of several programs added up by service. Each counts from when it is heard, and anew after a silence:
    what it did before is no burst of now.
    """

    def __init__(self) -> None:
        self._last: Mapping[tuple[str, str], Counts] = {}
        self._sums: Mapping[str, Counts] = {}

    def take(self, counts: Mapping[tuple[str, str], Counts]) -> Mapping[str, Counts]:
        """The sums after another look, at the counters of each service and program that is heard."""
        sums: dict[str, Counts] = {}
        for key, now in counts.items():
            then = self._last.get(key, now)
            total = sums.get(key[0]) or self._sums.get(key[0], NOTHING)._replace(active=0.0)
            gained = (max(0.0, new - old) for new, old in zip(now[1:], then[1:], strict=True))
            sums[key[0]] = Counts(*map(sum, zip(total, (now.active, *gained), strict=True)))
        self._last, self._sums = counts, sums
        return sums


class History:
    """Samples by service, one each STEP seconds. A service that is not in a sample is forgotten when all of it is old.

    `sample` costs a microsecond a service, so that it goes on while nobody looks.
    """

    def __init__(self) -> None:
        self._rings: dict[str, array[float]] = {}
        self._last: dict[str, Counts] = {}
        self._at = 0.0
        self.taken = 0

    def sample(self, now: float, counts: Mapping[str, Counts]) -> None:
        """Take the counters of this moment, `now` in seconds of any clock that only goes forward."""
        passed, self._at = now - self._at, now
        place = self.taken % KEPT * FIELDS
        self.taken += 1
        for name in self._rings.keys() - counts.keys():
            self._miss(name, place)
        for name, count in counts.items():
            ring = self._rings.get(name)
            if ring is None:
                if len(self._rings) >= MOST:
                    continue
                ring = self._rings[name] = array("d", [UNKNOWN]) * (KEPT * FIELDS)
            last = self._last.get(name)
            ring[place] = count.active
            for field in range(1, FIELDS):
                rate = UNKNOWN if last is None or passed <= 0 else (count[field] - last[field]) / passed
                ring[place + field] = max(rate, 0.0) if last is not None else UNKNOWN
        self._last = {name: count for name, count in counts.items() if name in self._rings}

    def _miss(self, name: str, place: int) -> None:
        """Note that a service is not there now, and forget it when nothing is left of it."""
        ring = self._rings[name]
        ring[place : place + FIELDS] = array("d", [UNKNOWN]) * FIELDS
        if max(ring) == UNKNOWN:
            del self._rings[name]

    def series(self, name: str) -> Series | None:
        """A service's fifteen minutes; None before its first sample."""
        ring = self._rings.get(name)
        if ring is None:
            return None
        first = self.taken % KEPT

        def row(field: int) -> tuple[float | None, ...]:
            values = [ring[(first + step) % KEPT * FIELDS + field] for step in range(KEPT)]
            return tuple(None if value == UNKNOWN else value for value in values)

        return Series(row(0), row(1), row(2), row(3))


class Rates:
    """What counters gain a second, from looks at most WINDOW seconds apart."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Mapping[object, tuple[float, ...]]]] = deque()
        self._last: Mapping[object, tuple[float, ...]] = {}
        self._known = False

    def look(self, now: float, counters: Mapping[object, tuple[float, ...]]) -> Rate:
        """Take this look, and answer for a key what each of its counters gains a second; empty while not known."""
        self._trim(now)
        before, then = self._looks[0] if self._looks else (now, {})
        self._last = counters
        self._keep(now)
        passed = now - before
        self._known = known = passed >= SHORTEST

        def rate(key: object) -> tuple[float, ...]:
            old, new = then.get(key), counters.get(key)
            if old is None or new is None or not known:
                return ()
            return tuple(max(0.0, b - a) / passed for a, b in zip(old, new, strict=True))

        return rate

    def still(self, now: float) -> bool:
        """Take a look that found everything as it was at the last one. False if rates are then what they were, too:
        all zero.
        """
        self._trim(now)
        self._keep(now)
        return self.moving

    @property
    def moving(self) -> bool:
        """Whether some rates are not zero, or not known yet."""
        return not self._known or self._looks[0][1] != self._last

    def _trim(self, now: float) -> None:
        if self._looks and now - self._looks[-1][0] > LONG:
            self._looks.clear()  # nobody looked meanwhile: a mean over hours is no rate
        while len(self._looks) > 1 and now - self._looks[0][0] > WINDOW:
            self._looks.popleft()

    def _keep(self, now: float) -> None:
        if not self._looks or now - self._looks[-1][0] > SHORTEST:
            self._looks.append((now, self._last))
