"""`--links`: listeners for the services that this host's containers ask for by a label, as long as one asks.

What containers there are is the inventory's to know; `consumers` decides what they want. Here it is made so: a listener
is open from the creation of the first container that wants it to the removal of the last, its service followed as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, MutableSet
from dataclasses import replace
from typing import Any

from ambcore.backoff import backoff
from ambcore.containers import ContainerEvent
from ambcore.errors import ConfigError, DockerError
from ambcore.links import LABEL
from ambcore.model import Address, IPAddress, join_host_port
from ambcore.networks import Network, parse_network
from ambnet.addresses import local_addresses
from ambnet.daemon import background
from ambnet.dockerd import Engine
from ambnet.inventory import Inventory
from ambnet.saying import Saying
from dynproxy.config import Front
from dynproxy.consumers import Consumer, Place, Plan, Standing, consumer_of, wanted
from dynproxy.following import Following
from dynproxy.sources import Source

log = logging.getLogger("links")

# Seconds before what failed is tried again. The first is for a place whose former listener a worker is about to close.
TRY_AGAIN = (0.2, 10.0)

NOTHING = Plan({})
JUST_NOW = "~"  # sorts behind every date


class Links:
    """Runs by `run`, while `engine` and `followed` are entered; an Observer of the inventory.

    `known` is set once every container was looked at and what they want was done.
    `source` makes the source of a service; `own` are the addresses at which no instance may be, ours, kept up to date;
    `listen` is where the fronts of the command line are, None for everywhere.
    """

    def __init__(
        self,
        engine: Engine,
        followed: Following,
        source: Callable[[str], Source],
        own: MutableSet[Address],
        *,
        listen: str | None = None,
        resync: float = 30.0,
    ) -> None:
        self.engine = engine
        self._followed = followed
        self._source = source
        self._own = own
        self._standing = tuple(Standing(front.service, front.port, front.host or listen) for front in followed.fronts)
        self._inventory = Inventory(engine, self, resync=resync)
        self._consumers: dict[str, Consumer] = {}
        self._created: dict[str, None] = {}  # containers that nobody has looked at yet
        self._news = asyncio.Event()
        self._local: frozenset[IPAddress] = frozenset()
        self._networks: tuple[Network, ...] = ()
        self._stale = asyncio.Event()  # set while they have to be asked for
        self._surveyed = asyncio.Event()
        self._unsure = True  # whether the networks may be others by now
        self._changed = asyncio.Event()
        self._plan = NOTHING
        self.known = asyncio.Event()
        self._open: dict[Place, Front] = {}
        self._failed: dict[Place, str] = {}
        self._said: frozenset[str] = frozenset()
        self._sight = Saying(log, "clear")
        self._delays = backoff(*TRY_AGAIN, random.random)
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Endless; ends by being cancelled."""
        async with background(self._inventory.run, self._glance, self._survey):
            # Which of two containers is older cannot be said before all are known.
            await self._inventory.known.wait()
            await self._surveyed.wait()
            while True:
                self._changed.clear()
                await self._follow_plan()
                if not self._unsure:
                    self._say()
                await self._changed.wait()

    def heard(self, event: ContainerEvent) -> None:
        """Have a glance at a container that was created, which is quicker than to look at it; see Observer."""
        if event.action == "create":
            self._created[event.container] = None
            self._news.set()

    def saw(self, container: str, inspected: Mapping[str, Any] | None) -> None:
        """Note whether it is a consumer, and of what; see Observer."""
        self._created.pop(container, None)
        consumer = consumer_of(inspected) if inspected is not None else None
        if consumer == self._consumers.get(container):
            return
        if consumer is None:
            del self._consumers[container]
        else:
            self._consumers[container] = consumer
        self._reconsider()

    def listed(self, _containers: object) -> None:
        """Time to look again at networks, and to try again what failed; see Observer."""
        self._reconsider()

    def _reconsider(self) -> None:
        """Do at once what can be done with the networks that are known, and look whether they are still the same."""
        self._unsure = True
        self._stale.set()
        self._changed.set()

    async def _glance(self) -> None:
        """Endless: what new containers want. A look waits for as long as one is being started; it would be too late."""
        while True:
            await self._news.wait()
            self._news.clear()
            asked = tuple(self._created)
            found: tuple[Mapping[str, Any], ...] = ()
            with contextlib.suppress(DockerError):  # a look follows anyway
                found = await self.engine.glimpse(asked, LABEL)
            for raw in found:
                consumer = consumer_of(raw)
                if consumer is not None and consumer.id in self._created and consumer.id not in self._consumers:
                    self._consumers[consumer.id] = replace(consumer, created=JUST_NOW)
                    self._reconsider()
            for container in asked:
                self._created.pop(container, None)

    async def _survey(self) -> None:
        """Endless: which networks there are. Beside the rest, as the answer may wait for a container that starts."""
        await self._inventory.known.wait()
        delays = backoff(*TRY_AGAIN, random.random)
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                found = await self.engine.networks()
                self._local = local_addresses()
            except (DockerError, OSError) as error:  # the latter for want of descriptors
                if self.engine.connected:  # else that is said already
                    text = "cannot ask for networks, only known ones are served: %s"
                    self._sight.say("blind", logging.WARNING, text, error)
                self._stale.set()
                await asyncio.sleep(next(delays))
                continue
            self._sight.say("clear", logging.INFO, "networks are known again")
            delays = backoff(*TRY_AGAIN, random.random)
            self._networks = tuple(parse_network(raw, self._local) for raw in found)
            self._unsure = self._stale.is_set()
            self._surveyed.set()
            self._changed.set()

    async def _follow_plan(self) -> None:
        """Close what nobody wants any more, open what is wanted and is not open yet."""
        self._plan = plan = wanted(self._consumers.values(), self._networks, self._local, self._standing)
        mine = {place: listener for place, listener in plan.listeners.items() if not listener.standing}
        for place, front in tuple(self._open.items()):
            if place not in mine or mine[place].service != front.service:
                await self._close(place)
        self._failed = {place: why for place, why in self._failed.items() if place in mine}
        for place, listener in mine.items():
            if place not in self._open:
                await self._try(place, listener.service)
        if self._failed:
            self._try_later()
        else:
            self._delays = backoff(*TRY_AGAIN, random.random)
        if not self.known.is_set():
            log.info("containers that ask for links: %d; listening for whoever else comes", len(self._consumers))
            self.known.set()

    def _try_later(self) -> None:
        """Look at the plan again, a little later each time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(next(self._delays), self._changed.set)

    async def _try(self, place: Place, service: str) -> None:
        """Open a listener, and follow its service if need be."""
        host, port, protocol = place
        front = Front(service, port, protocol, host)
        try:
            await self._followed.open(front)
        except ConfigError as error:
            self._failed[place] = str(error).removeprefix(f"{error.option}: ")
            return
        self._failed.pop(place, None)
        self._open[place] = front
        self._own.add(Address(host, port))
        await self._read_anew(Address(host, port))
        if service not in (source.service for source in self._followed.sources):
            self._followed.follow(self._source(service))

    async def _close(self, place: Place) -> None:
        """Close a listener, and end following its service if it was the last."""
        front = self._open.pop(place)
        if front.service not in (other.service for other in self._followed.fronts if other != front):
            await self._followed.unfollow(front.service)
        await self._followed.close(front)
        if place[:2] not in (other[:2] for other in self._open):
            self._own.discard(Address(*place[:2]))

    async def _read_anew(self, address: Address) -> None:
        """A record of our new address was believed while it was nobody's or another's; now it would be a loop."""
        for source in self._followed.sources:
            if any(item.address == address for item in source.served or ()):
                await self._followed.unfollow(source.service)
                self._followed.follow(self._source(source.service))

    def _say(self) -> None:
        """Each line once, as long as it is true."""
        troubles = frozenset(self._troubles())
        for line in sorted(troubles - self._said):
            log.warning("%s", line)
        services = frozenset(self._lines())
        for line in sorted(services - self._said):
            log.info("%s", line)
        self._said = troubles | services

    def _troubles(self) -> Iterator[str]:
        for refusal in self._plan.refused:
            yield f"{refusal.consumer}: {refusal.link or 'no links'}: {refusal.why}"
        for place, why in self._failed.items():
            yield f"{', '.join(self._plan.listeners[place].consumers)}: {self._plan.listeners[place].service}: {why}"

    def _lines(self) -> Iterator[str]:
        for (host, port, protocol), front in self._open.items():
            yield f"listening for {front.service} on {protocol} {join_host_port(host, port)}"

    def status(self) -> dict[str, Any]:
        """Which links there are, for whom, and what was refused; for the status document."""
        return {
            "known": self.known.is_set(),
            "listeners": [
                {
                    "address": join_host_port(host, port),
                    "protocol": protocol.value,
                    "service": listener.service,
                    "for": list(listener.consumers),
                    "open": listener.standing or (host, port, protocol) in self._open,
                    "why": self._failed.get((host, port, protocol)),
                }
                for (host, port, protocol), listener in sorted(self._plan.listeners.items())
            ],
            "refused": [
                {"container": refusal.consumer, "link": refusal.link or None, "why": refusal.why}
                for refusal in self._plan.refused
            ],
        }

    @property
    def figures(self) -> tuple[int, int]:
        """How many listeners are open, and how many links have none, for metrics."""
        return len(self._open), len(self._plan.refused) + len(self._failed)
