"""What went wrong, and what explains it. Pure.

A fault excuses what was open in its way at that moment, and nothing that was begun afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TCP = frozenset({"short", "long", "bulk"})
BLINK = 0.05  # seconds by which two processes may see one moment apart


@dataclass(frozen=True)
class Failure:
    """An exchange that failed, as the load saw it.

    `load` is short, long, bulk or udp; `kind` is refused, reset, short, silent, corrupt or error. `instance` is who had
    answered before, None if nobody had. The connection was `begun` and failed (`ended`) at moments in seconds.
    """

    load: str
    proxy: str
    kind: str
    instance: str | None
    begun: float
    ended: float
    detail: str

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Excuse:
    """Explains failures of connections that were open at any moment from `since` to `until`: those of a proxy, or of
    instances, or both. One that had not been greeted yet may have been on its way to any instance. `begun` narrows it
    to those that began between two moments.
    """

    since: float
    until: float
    proxy: str | None = None
    instances: frozenset[str] | None = None
    loads: frozenset[str] = TCP
    begun: tuple[float, float] = (-math.inf, math.inf)

    def covers(self, failure: Failure) -> bool:
        """Whether it explains this failure. Nothing explains other bytes than were sent."""
        return (
            failure.kind != "corrupt"
            and failure.load in self.loads
            and self.proxy in (None, failure.proxy)
            and (self.instances is None or failure.instance is None or failure.instance in self.instances)
            and self.begun[0] - BLINK <= failure.begun <= self.begun[1] + BLINK
            and failure.begun <= self.until + BLINK
            and failure.ended >= self.since - BLINK
        )


def sort_out(failures: Iterable[Failure], faults: Sequence[Sequence[Excuse]]) -> tuple[list[int], list[Failure]]:
    """(how many failures each fault explains, those that none does). The latest fault that does has a failure."""
    explained = [0] * len(faults)
    rest = []
    for failure in failures:
        found = [number for number, fault in enumerate(faults) if any(each.covers(failure) for each in fault)]
        if found:
            explained[found[-1]] += 1
        else:
            rest.append(failure)
    return explained, rest
