"""Containers as a source of instances: every port that a named container exposes is a front, with it behind.

The daemon's state is authoritative, its events are hints: what they name is inspected, and everything anew after each
reconnect and every `resync` seconds. A daemon that is away changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from ambcore.containers import ContainerEvent, Lost, Subscribed
from ambcore.errors import ConfigError, DockerError
from ambcore.model import Instance, IPAddress, parse_ip
from ambcore.states import Watch
from ambnet.addresses import default_gateway, local_addresses
from ambnet.daemon import background
from ambnet.dockerd import Engine
from ambnet.saying import Saying
from ambnet.threads import in_thread
from dynproxy.config import Front
from dynproxy.exposed import (
    SHORT_ID,
    Door,
    Exposed,
    Here,
    assigned,
    exposed,
    instances_of,
    on_host_network,
    service_of,
)
from dynproxy.following import Following
from dynproxy.sources import Sight

log = logging.getLogger("docker")

LOOK_AGAIN = 2.0  # seconds after a look in vain at a daemon that is there
LOOPBACK = parse_ip("127.0.0.1")


class Containers:
    """What the named containers expose. Use: `run` beside everything else; `serve` too, once there is a plane.

    `seen` has each that was looked at, None if it does not exist; `known` is set when all of them were, and `in_line`
    when what they expose is followed. `error` says why the daemon cannot be asked now.
    """

    def __init__(self, engine: Engine, names: Sequence[str], listen: str | None, *, resync: float = 30.0) -> None:
        self.engine = engine
        self.names = tuple(dict.fromkeys(names))
        self.seen: dict[str, Exposed | None] = {}
        self.known = asyncio.Event()
        self.in_line = asyncio.Event()
        self.error: str | None = None
        self._resolved: IPAddress | None = None
        self._listen_on = None if listen is None or parse_ip(listen).is_unspecified else parse_ip(listen)
        self._resync = resync
        self._looked_at: float | None = None
        self._stale: dict[str, None] = {}
        self._stir = asyncio.Event()
        self._changed = asyncio.Event()
        self._held: dict[Door, str] = {}
        self._sources: dict[str, ContainerSource] = {}
        self._docker = Saying(log, "up")
        self._about = {name: Saying(log) for name in self.names}
        self._fronts_said: dict[tuple[Door, str], Saying] = {}

    @property
    def fronts(self) -> tuple[Front, ...]:
        """What is to be listened for, as far as it is known."""
        return tuple(_front(name, door) for door, name in assigned(self._held, self.names, self.seen).items())

    def sight(self) -> Sight:
        """How well we see."""
        age = None if self._looked_at is None else time.monotonic() - self._looked_at
        return Sight(Watch.WATCHING if self.engine.connected else Watch.BROKEN, age, error=self.error)

    async def run(self) -> None:
        """Endless: hear what happens, and look."""
        async with background(self._listen, self._look):
            await asyncio.Event().wait()

    async def _listen(self) -> None:
        async with contextlib.aclosing(self.engine.events()) as messages:
            async for message in messages:
                match message:
                    case Subscribed():
                        self.error = None
                        self._docker.say("up", logging.INFO, "docker is back at %s", self.engine.url)
                        self._look_at(self.names)
                    case Lost(why):
                        self.error = why
                        self._docker.say("lost", logging.WARNING, "docker is away, what is known stays: %s", why)
                    case ContainerEvent():
                        self._has_died(message)
                        self._look_at(name for name in self.names if self._is_about(message, name))

    def _has_died(self, event: ContainerEvent) -> None:
        """Take a death for true until the look that follows, which the daemon answers only when it has cleared away.

        Whoever asks at an address while its network is taken down leaves the kernel with a question to it that nobody
        answers, and that holds up the next life's first clients for up to a second.
        """
        for name, item in self.seen.items():
            if event.action == "die" and item is not None and item.id == event.container:
                self.seen[name] = replace(item, address=None, why="its process has ended")
                self._changed.set()

    def _is_about(self, event: ContainerEvent, name: str) -> bool:
        """Whether an event may change what is known of a container. Networks are between it and us: either may move."""
        item = self.seen.get(name)
        return (
            event.action in ("connect", "disconnect")
            or name in (event.name, event.old_name)
            or (item is not None and item.id == event.container)
            or (len(name) >= SHORT_ID and event.container.startswith(name))
        )

    def _look_at(self, names: Iterable[str]) -> None:
        self._stale.update(dict.fromkeys(names))
        if self._stale:
            self._stir.set()

    async def _look(self) -> None:
        patience = self._resync
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._stir.wait()
            stale, self._stale = tuple(self._stale) or self.names, {}
            self._stir.clear()
            patience = self._resync
            for name in stale:
                try:
                    await self._inspect(name)
                except (DockerError, OSError) as error:  # the latter for want of descriptors or threads
                    self._stale[name] = None
                    self.error = str(error)
                    patience = self._resync
                    if self.engine.connected:
                        patience = LOOK_AGAIN
                        self._about[name].say(str(error), logging.WARNING, "%s: cannot be looked at: %s", name, error)
            self._changed.set()

    async def _inspect(self, name: str) -> None:
        """Look at one. Raises DockerError; OSError where what is asked of this machine cannot be had."""
        inspected = await self.engine.inspect(name)
        self.seen[name] = item = exposed(inspected, name, await self._here(inspected))
        self._looked_at = time.monotonic()
        self.error = None
        self._say(name, item)
        if len(self.seen) == len(self.names):
            self.known.set()

    async def _here(self, inspected: Any) -> Here:
        own = local_addresses()
        listening = own if self._listen_on is None else frozenset({self._listen_on})
        return Here(own, listening, await self._host() if inspected and on_host_network(inspected) else None)

    async def _host(self) -> IPAddress | None:
        """The address of the daemon's host, as it is reached from here; of a name, the last that could be found."""
        url = urlsplit(self.engine.url)
        if url.scheme != "unix" and url.hostname not in (None, "localhost"):
            found = await in_thread(lambda: _resolved(str(url.hostname)), "resolve")
            self._resolved = found or self._resolved
            return self._resolved
        gateway = default_gateway()
        bridges = await self.engine.bridges()
        inside = gateway is not None and any(gateway in network for some in bridges.values() for network in some)
        return gateway if inside else LOOPBACK

    def _say(self, name: str, item: Exposed | None) -> None:
        """Each state of a container once."""
        if item is None:
            text = "there is no container of this name; clients will be served when there is"
        elif item.address is None:
            text = item.why
        else:
            ports = ", ".join(f"{port}/{protocol}" for port, protocol in item.doors)
            text = f"it is at {item.address}, with {ports}" if ports else item.why
        self._about[name].say(text, logging.INFO, "%s: %s", name, text)

    async def serve(self, followed: Following) -> None:
        """Endless: bring fronts and sources into line with what is seen, once all were looked at."""
        await self.known.wait()
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            now = assigned(self._held, self.names, self.seen)
            for door, name in tuple(self._held.items()):
                if now.get(door) != name:
                    await self._close(followed, door, name)
            for door, name in now.items():
                if door not in self._held:
                    await self._open(followed, door, name)
            self._say_conflicts()
            for name in self.names:
                for number in sorted({door[0] for door, holder in self._held.items() if holder == name}):
                    self._publish(followed, name, number)
            self.in_line.set()

    async def _open(self, followed: Following, door: Door, name: str) -> None:
        said = self._fronts_said.setdefault((door, name), Saying(log))
        try:
            await followed.open(_front(name, door))
        except ConfigError as error:
            await followed.close(_front(name, door))
            said.say("failed", logging.ERROR, "%s: cannot listen, trying again: %s", name, error)
            return
        said.say("open", logging.INFO, "%s: listening on %d/%s", name, *door)
        self._held[door] = name

    async def _close(self, followed: Following, door: Door, name: str) -> None:
        """A container exists without this port, so it will not come back."""
        del self._held[door]
        service = service_of(name, door)
        if not any(service_of(holder, other) == service for other, holder in self._held.items()):
            await followed.unfollow(service)
            self._sources.pop(service, None)
        await followed.close(_front(name, door))
        log.info("%s: listening on %d/%s no more", name, *door)

    def _say_conflicts(self) -> None:
        for name in self.names:
            for door in getattr(self.seen.get(name), "doors", ()):
                if (holder := self._held.get(door, name)) != name:
                    said = self._fronts_said.setdefault((door, name), Saying(log))
                    text = "%s: port %d/%s is that of %s, which was first: not served"
                    said.say("taken", logging.WARNING, text, name, *door, holder)

    def _publish(self, followed: Following, name: str, number: int) -> None:
        """Hand a container's instances at one port number to its source, which is followed from the first on."""
        doors = [door for door, holder in self._held.items() if holder == name]
        service = f"{name}:{number}"
        if service not in self._sources:
            self._sources[service] = source = ContainerSource(service, self)
            followed.follow(source)
        self._sources[service].put(instances_of(name, number, doors, self.seen.get(name)))


class ContainerSource:
    """One port number of a container, a Source."""

    trusted = False  # a container runs before the application in it listens

    def __init__(self, service: str, containers: Containers) -> None:
        self.service = service
        self.served: tuple[Instance, ...] | None = None
        self.known = asyncio.Event()
        self._containers = containers
        self._latest: tuple[Instance, ...] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sight(self) -> Sight:
        """How well the containers are seen."""
        return self._containers.sight()

    def put(self, instances: tuple[Instance, ...]) -> None:
        """These are its instances now."""
        if instances != self._latest:
            self._latest = instances
            self._news.set()

    async def snapshots(self) -> AsyncGenerator[tuple[Instance, ...], None]:
        """Its instances, first and after every change. A container's next life comes after a moment of none, however
        fast it came: nothing that was found out about the life before is true of it.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            instances = self._latest or ()
            if self.served and instances:
                yield ()
            yield instances
            self.served = instances
            self.known.set()


def _front(container: str, door: Door) -> Front:
    return Front(service_of(container, door), *door)


def _resolved(host: str) -> IPAddress | None:
    with contextlib.suppress(OSError, ValueError):
        return parse_ip(str(socket.getaddrinfo(host, None)[0][4][0]))
    return None
