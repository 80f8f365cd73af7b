"""One service followed: its records and its instances' health go to the plane, whichever changes."""

from __future__ import annotations

import asyncio
import contextlib
import time

from ambcore.holders import differing
from ambcore.model import Address, Instance
from ambcore.slow_start import SlowStart
from dynproxy.health import HealthChecks
from dynproxy.plane import DataPlane
from dynproxy.sources import Source

Seat = tuple[str, Address]  # an instance's id, and where it answers


class Follower:
    """Carries a source's snapshots to the plane, and the checks' findings with them.

    An instance that comes or comes back starts slowly, over so many seconds. One that nobody vouches for does not: it
    has come long before its first check.
    """

    def __init__(self, source: Source, health: HealthChecks, plane: DataPlane, slow_start: float = 0.0) -> None:
        self.source = source
        self._health = health
        self._plane = plane
        self._instances: tuple[Instance, ...] = ()
        self._since: dict[Seat, float] = {}
        self._health_changed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._slow_start = SlowStart(slow_start if source.trusted else 0.0)
        self._next_step: asyncio.TimerHandle | None = None

    def health_changed(self) -> None:
        """Note that the set of unhealthy instances is another."""
        self._health_changed.set()

    def since(self, instance: Instance) -> float | None:
        """When it was first seen at its address, in seconds since 1970; None if it is not known."""
        return self._since.get(_seat(instance))

    def share(self, instance: Instance) -> float:
        """The part of its weight that an instance has now, as it may be starting: 0.1 to 1."""
        return self._slow_start.share(instance, time.monotonic())

    async def follow_records(self) -> None:
        """Endless: every snapshot."""
        async with contextlib.aclosing(self.source.snapshots()) as snapshots:
            async for instances in snapshots:
                self._note_arrivals(instances)
                self._instances = instances
                self._health.watch(self.source.service, instances, trusted=self.source.trusted)
                await self._apply()

    def _note_arrivals(self, instances: tuple[Instance, ...]) -> None:
        """Note when those that are new were first seen; only what has changed is looked at."""
        now = time.time()
        departed, arrived = differing(self._instances, instances)
        left = {seat: self._since.pop(seat, now) for seat in map(_seat, departed)}
        self._since |= {seat: left.get(seat, now) for seat in map(_seat, arrived)}

    async def follow_health(self) -> None:
        """Endless: every finding, once the instances are known."""
        await self.source.known.wait()
        while True:
            await self._health_changed.wait()
            await self._apply()

    async def _apply(self) -> None:
        async with self._one_at_a_time:
            self._health_changed.clear()
            unhealthy = self._health.unhealthy(self.source.service)
            now = time.monotonic()
            instances = self._slow_start.eased(self._instances, unhealthy, now)
            self._note_next_step(self._slow_start.rest(now))
            await self._plane.apply(self.source.service, instances, unhealthy)

    def _note_next_step(self, rest: float | None) -> None:
        """Have the weights looked at again when they are to change."""
        if self._next_step is not None:
            self._next_step.cancel()
            self._next_step = None
        if rest is not None:
            self._next_step = asyncio.get_running_loop().call_later(rest, self._health_changed.set)


def _seat(instance: Instance) -> Seat:
    return instance.id, instance.address
