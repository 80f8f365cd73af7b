"""What this proxy's checks cannot reach, for its announcement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from ambcore.text import visible
from ambcore.unreachable import MAX_WHY, Unreachable
from dynproxy.health import HealthChecks


class Unreachables:
    """Called, it tells the instances of `services` that do not answer.

    What was said of one stays word for word until it answers: every other word would be a write.
    """

    def __init__(self, services: Callable[[], Iterable[str]], health: HealthChecks) -> None:
        self._services = services
        self._health = health
        self._told: dict[tuple[str, str, float], Unreachable] = {}  # by service, instance and when it went down

    def __call__(self) -> list[Unreachable]:
        """All of them, as it is now."""
        told = {}
        for service in self._services():
            if down := self._health.unhealthy(service):
                known = self._health.state(service).instances
                for name in down:
                    if (health := known.get(name)) is not None and health.since is not None:
                        key = service, name, health.since
                        told[key] = self._told.get(key) or _unreachable(*key, health.why)
        self._told = told
        return [*told.values()]


def _unreachable(service: str, instance: str, since: float, why: str) -> Unreachable:
    """`since` is in seconds of the event loop's clock."""
    moment = time.time() - (asyncio.get_running_loop().time() - since)
    return Unreachable(
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)), service, instance, visible(why)[:MAX_WHY]
    )
