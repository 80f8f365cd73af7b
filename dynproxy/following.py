"""Which services are followed and which fronts are open for them: both may come and go while dynproxy runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from ambcore.errors import IllegalStepError
from ambcore.model import Instance
from ambnet.daemon import background, cancel
from dynproxy.config import Front
from dynproxy.follow import Follower
from dynproxy.health import HealthChecks
from dynproxy.plane import DataPlane
from dynproxy.sources import Source


class Following:
    """Every source that is followed, each in a task of its own, and every front that is open. Use `following`.

    Open a service's fronts before its source is followed, and close them after it is not followed any more. Instances
    that come start slowly, over `slow_start` seconds.
    """

    def __init__(
        self, health: HealthChecks, plane: DataPlane, fronts: Iterable[Front] = (), slow_start: float = 0.0
    ) -> None:
        self._health = health
        self._plane = plane
        self._slow_start = slow_start
        self._fronts = dict.fromkeys(fronts)
        self._followers: dict[str, Follower] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those that are followed, sorted by their services."""
        return tuple(self._followers[service].source for service in sorted(self._followers))

    @property
    def fronts(self) -> tuple[Front, ...]:
        """Those that are open."""
        return tuple(self._fronts)

    async def open(self, front: Front) -> None:
        """Have the plane listen for one more front. Raises ConfigError when its port cannot be had."""
        await self._plane.open(front)
        self._fronts[front] = None

    async def close(self, front: Front) -> None:
        """Have the plane listen for a front no more; what is connected through it goes on."""
        self._fronts.pop(front, None)
        await self._plane.close(front)

    def follow(self, source: Source) -> None:
        """Enter a source and carry its snapshots to the plane from now on. One service has one source."""
        service = source.service
        if service in self._followers:
            raise IllegalStepError(f"{service} is followed already")
        self._followers[service] = follower = Follower(source, self._health, self._plane, self._slow_start)
        self._tasks[service] = task = asyncio.create_task(_keep(follower), name=f"follow {service}")
        task.add_done_callback(self._ended)

    async def unfollow(self, service: str) -> None:
        """End following a service: new clients wait as if it had no instance. An unknown one is fine."""
        if service not in self._followers:
            return
        del self._followers[service]
        await cancel(self._tasks.pop(service))
        self._health.watch(service, ())
        await self._plane.apply(service, ())

    def health_changed(self, service: str) -> None:
        """Note that another set of a service's instances is unhealthy."""
        if follower := self._followers.get(service):
            follower.health_changed()

    def since(self, instance: Instance) -> float | None:
        """When an instance was first seen at its address, in seconds since 1970; None if it is not known."""
        follower = self._followers.get(instance.service)
        return follower.since(instance) if follower else None

    def share(self, instance: Instance) -> float:
        """The part of its weight that an instance has now, as it may be starting: 0.1 to 1."""
        follower = self._followers.get(instance.service)
        return follower.share(instance) if follower else 1.0

    async def known(self) -> None:
        """Until every service that is followed now is known."""
        await asyncio.gather(*(source.known.wait() for source in self.sources))

    async def failure(self) -> None:
        """Endless, but for a source that fails for good: raises its error."""
        await self._failed

    async def aclose(self) -> None:
        """End following all of them; the plane keeps what it was told."""
        await cancel(*self._tasks.values())
        if not self._failed.cancel() and not self._failed.cancelled():
            self._failed.exception()  # seen

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self._failed.done():
            self._failed.set_exception(error)


@contextlib.asynccontextmanager
async def following(
    health: HealthChecks, plane: DataPlane, fronts: Iterable[Front] = (), slow_start: float = 0.0
) -> AsyncIterator[Following]:
    """A Following for the length of a block, which ends with the error of a source that fails for good.

    `fronts` are those that the plane has open already.
    """
    made = Following(health, plane, fronts, slow_start)
    try:
        async with background(made.failure):
            yield made
    finally:
        await made.aclose()


async def _keep(follower: Follower) -> None:
    """A source entered and followed until cancelled."""
    async with follower.source, background(follower.follow_records, follower.follow_health):
        await asyncio.Event().wait()
