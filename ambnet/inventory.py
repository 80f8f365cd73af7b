"""What containers a Docker daemon has, kept up to date.

The daemon's state is authoritative, its events are hints that arrive sooner. An event says whom to look at; a list,
after every subscription and then every `resync` seconds, has everybody looked at, those who have gone included. So
whatever events are lost, the picture is right within one resync. A daemon that is away changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ambcore.containers import ContainerEvent, Lost, Subscribed
from ambcore.errors import DockerError
from ambnet.daemon import background
from ambnet.dockerd import Engine
from ambnet.saying import Saying

log = logging.getLogger("docker")

LOOKERS = 4  # containers inspected at once: more only queue in the daemon, and each look is a thread
LOOK_AGAIN = 2.0  # seconds after a look in vain at a daemon that is there


class Observer(Protocol):
    """Who wants to know. All three are called in the event loop and must not block."""

    def heard(self, event: ContainerEvent) -> None:
        """Something happened; `saw` follows. What came while its container was being looked at is told once more after
        that `saw`, whose answer may be older: an event heard twice must mean what it meant once.
        """

    def saw(self, container: str, inspected: Mapping[str, Any] | None) -> None:
        """A container, by full id, was looked at, after everything that was heard of it before; None: it is gone."""

    def listed(self, containers: Mapping[str, str]) -> None:
        """All containers there are, id -> name. A `saw` follows for each, and for each seen before that has gone."""


class Inventory:
    """Runs by `run()`; tells `observer` everything.

    `known` is set once every container of a first list was looked at, be it in vain. `blind` says why one could not be
    looked at though the daemon is there, or what became of telling `observer`, by id. `before_list` is awaited before
    each list and may raise DockerError. For metrics: `lists`, `looks`.
    """

    def __init__(
        self,
        engine: Engine,
        observer: Observer,
        *,
        resync: float = 30.0,
        before_list: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.known = asyncio.Event()
        self.blind: dict[str, str] = {}
        self.lists = self.looks = 0
        self._engine = engine
        self._observer = observer
        self._resync = resync
        self._before_list = before_list
        self._urgent: dict[str, None] = {}  # whom to look at, in the order of asking
        self._routine: dict[str, None] = {}  # likewise, when nobody is urgent
        self._work = asyncio.Event()
        self._list_now = asyncio.Event()
        self._seen: set[str] = set()  # that exist, as far as we know
        self._looking: dict[str, list[ContainerEvent]] = {}  # who is being looked at, and what was heard meanwhile
        self._first: set[str] | None = None  # of the first list, those not looked at yet
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._docker = Saying(log, "up")
        self._sight = Saying(log, "clear")

    async def run(self) -> None:
        """Endless; ends by being cancelled."""
        try:
            async with background(self._listen, self._list, *[self._look] * LOOKERS):
                await asyncio.Event().wait()
        finally:
            for timer in self._timers.values():
                timer.cancel()

    def look(self, container: str, after: float = 0.0) -> None:
        """Have a container looked at, by full id; the last word on when counts."""
        if (timer := self._timers.pop(container, None)) is not None:
            timer.cancel()
        if after:
            self._timers[container] = asyncio.get_running_loop().call_later(after, self.look, container)
        else:
            self._urgent[container] = None
            self._work.set()

    def relist(self) -> None:
        """Have all containers listed, and looked at, now."""
        self._list_now.set()

    async def _listen(self) -> None:
        async with contextlib.aclosing(self._engine.events()) as messages:
            async for message in messages:
                match message:
                    case Subscribed():
                        self._docker.say("up", logging.INFO, "docker is back at %s", self._engine.url)
                        self._list_now.set()
                    case Lost(why):
                        self._docker.say("lost", logging.WARNING, "docker is away, what is known stays: %s", why)
                    case ContainerEvent():
                        log.debug("heard %s", message)
                        self._observer.heard(message)
                        if (meanwhile := self._looking.get(message.container)) is not None:
                            meanwhile.append(message)
                        self.look(message.container)

    async def _list(self) -> None:
        in_vain = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_AGAIN, self._resync) if in_vain else self._resync):
                    await self._list_now.wait()
            self._list_now.clear()
            try:
                if self._before_list is not None:
                    await self._before_list()
                containers = await self._engine.list()
            except DockerError as error:
                in_vain = self._engine.connected  # else its return is an event
                self._cannot_see("what containers there are", error)
                continue
            in_vain = False
            self.lists += 1
            self._observer.listed(containers)
            self._routine.update(dict.fromkeys([*containers, *sorted(self._seen - containers.keys())]))
            if self._first is None:
                self._first = set(containers)
                self._is_known()
            self._work.set()

    async def _look(self) -> None:
        while True:
            container = self._next()
            if container is None:
                self._work.clear()
                await self._work.wait()
                continue
            meanwhile = self._looking[container] = []
            try:
                await self._look_at(container)
            finally:
                del self._looking[container]
            for event in meanwhile:
                self._observer.heard(event)
            self._work.set()  # whoever was asked for again meanwhile is free now

    def _next(self) -> str | None:
        """Take the next one to look at; None while there is nobody but those whom another looker looks at."""
        for queue in (self._urgent, self._routine):
            for container in queue:
                if container not in self._looking:
                    self._urgent.pop(container, None)
                    self._routine.pop(container, None)
                    return container
        return None

    async def _look_at(self, container: str) -> None:
        try:
            inspected = await self._engine.inspect(container)
        except DockerError as error:
            if self._engine.connected:  # else there will be a list when it is back
                self.blind[container] = str(error)
                self._cannot_see(f"about {container[:12]}", error)
                if container not in self._timers:
                    self.look(container, LOOK_AGAIN)
            self._looked(container)
            return
        self.looks += 1
        if inspected is None:
            self._seen.discard(container)
        else:
            self._seen.add(container)
        try:
            self._observer.saw(container, inspected)
        except Exception as error:  # noqa: BLE001 - a defect of ours is said, and the other containers are served
            self._unforeseen(container, repr(error))
        else:
            self._clear(container)
        self._looked(container)

    def _unforeseen(self, container: str, why: str) -> None:
        """Said once; the next list has it looked at again."""
        if self.blind.get(container) != why:
            log.critical("unforeseen, while looking at %s, what is known of it stays: %s", container[:12], why)
        self.blind[container] = why

    def _clear(self, container: str) -> None:
        self.blind.pop(container, None)
        if not self.blind:
            self._sight.say("clear", logging.INFO, "docker tells about every container again")

    def _looked(self, container: str) -> None:
        if self._first is not None and not self.known.is_set():
            self._first.discard(container)
            self._is_known()

    def _is_known(self) -> None:
        if not self._first:
            self.known.set()

    def _cannot_see(self, what: str, error: DockerError) -> None:
        if self._engine.connected:
            text = "docker tells events, but not %s, what is known stays: %s"
            self._sight.say("blind", logging.WARNING, text, what, error)
