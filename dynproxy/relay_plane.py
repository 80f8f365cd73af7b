"""The relay plane: our epoll relay in worker processes, beside the control plane and undisturbed by it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial

from ambcore.backoff import backoff
from ambcore.model import Instance, Protocol
from ambnet.daemon import background, cancel
from ambnet.relay.limits import shared
from ambnet.relay.protocol import (
    UDP,
    Configure,
    Endpoints,
    Message,
    RouteSetup,
    Stats,
    udp_route,
)
from ambnet.relay.upstream import Endpoint
from dynproxy.config import Front, Settings
from dynproxy.listeners import Listening, listen
from dynproxy.plane import PlaneStats
from dynproxy.traffic import closed, total
from dynproxy.worker_process import Worker

log = logging.getLogger("relay")

MUTE = 2  # looks, one a second, without a word of a worker before changes no longer wait for it
SILENCE = 10  # looks without a word before it counts as hung; it speaks each second
HAND_IN_AGAIN = 0.01  # seconds
# It has not taken those before: as many as its queue holds, or as a user without privileges may have on their way.
HAS_SOME_YET = {errno.EAGAIN, errno.ETOOMANYREFS}
RESTART = (0.05, 5.0)  # seconds before a worker is replaced: first and longest


Described = dict[str, tuple[Instance, Endpoint]]  # by instance id: what the registry says, and what a worker is told


class RelayPlane:
    """A DataPlane in user space. Use `relay_plane`. One that is `waiting` accepts nobody before it takes charge.

    `clear_away` is called whenever it takes charge, to remove what would be in its way.
    """

    def __init__(self, settings: Settings, why: str, *, waiting: bool = False) -> None:
        self._settings = settings
        self._why = why
        self._listening: dict[Front, Listening] = {}
        self._workers = [Worker(self._on_word) for _ in range(settings.workers)]
        self._latest: dict[str, Endpoints] = {}  # by route, as is what follows
        self._described: dict[str, Described] = {}
        self._given: dict[str, tuple[tuple[Instance, ...], frozenset[str]]] = {}  # by service: as they were applied
        self._generation = 0
        self._restarts = 0
        self._past: list[Stats] = []
        self._progress = asyncio.Condition()
        self._started = self._draining = self._handed_over = False
        self._accepts = not waiting
        self.clear_away: Callable[[], Awaitable[None]] | None = None
        self._pulses: set[asyncio.Task[None]] = set()

    @property
    def served(self) -> tuple[Front, ...]:
        """The fronts that are open, each as far as its ports could be had."""
        return tuple(listening.served for listening in self._listening.values())

    async def open(self, front: Front) -> None:
        """Make the sockets and hand them to every worker; see DataPlane."""
        if front in self._listening or self._draining:
            return
        self._listening[front] = listening = listen(front, self._settings.listen, len(self._workers))
        if self._started:
            await self._hand_out([listening])
        if front.service in self._given:
            await self.apply(front.service, *self._given[front.service])

    async def _hand_out(self, opened: Iterable[Listening]) -> None:
        """Have every worker serve these, as far as we may. Each knows the routes before anybody can apply instances."""
        orders = [
            (worker, listening, self._route_setup(route, sockets))
            for listening in opened
            for slot, worker in enumerate(self._workers)
            for route, sockets in listening.routes(slot)
        ]
        for worker, _, setup in orders:
            worker.introduce(setup)
        await asyncio.gather(
            *(self._hand_in(worker, listening, partial(worker.open, setup)) for worker, listening, setup in orders)
        )

    async def take_charge(self) -> None:
        """Accept from now on; see DataPlane."""
        self._handed_over = False
        if not self._accepts:
            self._accepts = True
            await self._hand_out(self._listening.values())
        if self.clear_away is not None:
            await self.clear_away()

    async def give_charge(self) -> None:
        """Whoever takes over reads by the same sockets: what waits in them is left to it; see DataPlane."""
        self._handed_over = True

    async def close(self, front: Front) -> None:
        """Close a front's sockets, ours and the workers'; see DataPlane."""
        listening = self._listening.pop(front, None)
        if listening is None or self._draining:  # then all are closed already
            return
        places = list(listening.places())
        listening.give_up()
        listened = self._routes(front.service)
        for route, _ in places:
            if route not in listened:  # else the next worker would hear of instances of a route that it does not have
                self._latest.pop(route, None)
                self._described.pop(route, None)
        if not listened:
            self._given.pop(front.service, None)
        if self._started:
            await asyncio.gather(
                *(
                    self._hand_in(worker, None, partial(worker.close, route, host, port))
                    for worker in self._workers
                    for route, (host, port) in places
                )
            )

    async def _hand_in(self, worker: Worker, listening: Listening | None, order: Callable[[], None]) -> None:
        """Give a worker an order about sockets, unless they are not those of a front any more, or a drain closes all.

        One that ends over it leaves them to its successor, which gets what is open by then.
        """
        while not (worker.ended.is_set() or self._draining):
            if listening is not None and self._listening.get(listening.front) is not listening:
                return
            try:
                order()
            except OSError as error:
                if error.errno in HAS_SOME_YET:
                    await asyncio.sleep(HAND_IN_AGAIN)
                    continue
                log.debug("worker %d takes no sockets: %s", worker.pid, error.strerror)
                worker.kill()
            return

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        """Give a service's instances to every worker; see DataPlane."""
        self._generation += 1
        self._given[service] = instances, unhealthy
        expected = [
            (name, self._apply(name, protocol, instances, unhealthy))
            for name, protocol in self._routes(service).items()
        ]
        await self._until(lambda: all(_sees(worker, *each) for worker in self._workers for each in expected))

    def _routes(self, service: str) -> dict[str, Protocol]:
        """The routes of a service that are listened for, by name."""
        opened = {
            name
            for front, listening in self._listening.items()
            if front.service == service
            for name, _ in listening.routes(0)
        }
        every = {service: Protocol.TCP, udp_route(service): Protocol.UDP}
        return {name: protocol for name, protocol in every.items() if name in opened}

    def _apply(self, route: str, protocol: Protocol, instances: tuple[Instance, ...], unhealthy: frozenset[str]) -> int:
        """Give a route's instances to every worker, if they are others than before; returns their generation."""
        before = self._described.get(route)
        described = _described(instances, protocol, unhealthy, before or {})
        if described != before:
            self._described[route] = described
            endpoints = tuple(endpoint for _, endpoint in described.values())
            self._latest[route] = Endpoints(route, self._generation, endpoints)
            for worker in self._workers:
                worker.tell(self._latest[route])
        return self._latest[route].generation

    def stats(self, *, again_soon: bool = True) -> PlaneStats:
        """The sum over all workers, those that died included; see DataPlane."""
        return PlaneStats(
            plane="relay",
            why=self._why,
            processes=tuple(worker.pid for worker in self._workers if worker.ready),
            healthy=self._draining or all(worker.ready for worker in self._workers),
            services=total([*self._past, *(worker.stats for worker in self._workers)]),
            restarts=self._restarts,
            updates=self._generation,
        )

    async def drain(self, seconds: float) -> None:
        """Close the listeners and let the workers finish; see DataPlane."""
        self._draining = True
        for worker in self._workers:
            worker.drain(seconds, handed_over=self._handed_over)
        self._close_listeners()
        # A worker enforces the time itself; the second more is for one that cannot.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + 1):
                await asyncio.gather(*(worker.ended.wait() for worker in self._workers))

    async def aclose(self) -> None:
        """End every worker; see DataPlane."""
        self._draining = True
        self._close_listeners()
        if not self._started:
            return
        for worker in self._workers:
            worker.kill()
        await asyncio.gather(*(worker.exit_code() for worker in self._workers))
        await cancel(*self._pulses)

    async def start(self) -> None:
        """Launch the workers; returns when each accepts connections."""
        self._started = True
        for slot, worker in enumerate(self._workers):
            self._launch(slot, worker)
        await self._until(lambda: all(worker.ready or worker.ended.is_set() for worker in self._workers))

    async def supervise(self) -> None:
        """Endless: replace every worker that ends."""
        await asyncio.gather(*(self._keep(slot) for slot in range(len(self._workers))))

    async def _keep(self, slot: int) -> None:
        delays = backoff(*RESTART, random.random)
        while True:
            worker = self._workers[slot]
            await self._watch(worker)
            await self._pulse()
            if self._draining:
                return
            log.error("worker %d ended with %d, its connections are lost", worker.pid, await worker.exit_code())
            if worker.words > 1:  # it worked: this is not a worker that cannot even start
                delays = backoff(*RESTART, random.random)
            await self._replace(slot, delays)

    async def _replace(self, slot: int, delays: Iterator[float]) -> None:
        """Put a new worker in the place of one that has ended, unless there is nothing left for it to listen on."""
        while True:
            await asyncio.sleep(next(delays))
            if self._draining:
                return
            worker = Worker(self._on_word)
            try:
                self._launch(slot, worker)
            except OSError as shortage:
                log.error("no worker can be started: %s", shortage.strerror)  # noqa: TRY400 - one line says it all
                continue
            self._past = [Stats(0, total([*self._past, closed(self._workers[slot].stats)]))]
            self._workers[slot] = worker
            self._restarts += 1
            return

    async def _watch(self, worker: Worker) -> None:
        """Until a worker has ended. One that is silent for long is ended: it would hold its share of the clients.

        Silence is counted in looks of our own, so that a machine that slept does not cost a healthy worker its life.
        """
        heard = worker.words
        while not worker.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await worker.ended.wait()
            worker.silent += worker.words == heard
            heard = worker.words
            if worker.silent == MUTE:
                await self._pulse()
            if worker.silent >= SILENCE:
                log.error("worker %d is silent for %d s, it is ended", worker.pid, SILENCE)
                worker.kill()
                worker.silent = 0

    def _launch(self, slot: int, worker: Worker) -> None:
        """Start a worker with everything that is listened on; what is opened later follows by its doors."""
        sockets: dict[str, list[socket.socket]] = {}
        for listening in self._listening.values():
            for route, some in listening.routes(slot):
                sockets.setdefault(route, []).extend(some)
        settings = self._settings
        setup = Configure(
            tuple(self._route_setup(route, some) for route, some in sockets.items()),
            shared(settings.limits, settings.workers, slot),
            settings.drain,
            settings.log_level,
            allow=tuple(map(str, settings.allow)),
            accept_proxy=tuple(map(str, settings.accept_proxy)),
        )
        worker.launch(setup, [sock for some in sockets.values() for sock in some] if self._accepts else ())
        for latest in self._latest.values():
            worker.tell(latest)

    def _route_setup(self, route: str, sockets: Iterable[socket.socket]) -> RouteSetup:
        fds = tuple(sock.fileno() for sock in sockets) if self._accepts else ()
        settings = self._settings
        idle = settings.udp_idle.of(route.removesuffix(UDP))
        return RouteSetup(route, fds, settings.policy, settings.on_removal.seconds, settings.send_proxy, idle)

    def _on_word(self, message: Message) -> None:
        if not isinstance(message, Stats):
            task = asyncio.create_task(self._pulse())
            self._pulses.add(task)
            task.add_done_callback(self._pulses.discard)

    async def _pulse(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._progress:
            await self._progress.wait_for(reached)

    def _close_listeners(self) -> None:
        for listening in self._listening.values():
            listening.close()


@contextlib.asynccontextmanager
async def relay_plane(
    settings: Settings, why: str = "it works anywhere", *, waiting: bool = False
) -> AsyncIterator[RelayPlane]:
    """A running relay plane; `why` says why it is this one. Raises ConfigError when a port cannot be had."""
    plane = RelayPlane(settings, why, waiting=waiting)
    try:
        for front in settings.fronts:
            await plane.open(front)
        await plane.start()
        async with background(plane.supervise):
            yield plane
    finally:
        await plane.aclose()


def _sees(worker: Worker, service: str, generation: int) -> bool:
    """Whether no client can come to a worker that does not know this generation.

    One that starts knows nothing and lets them wait; one that hangs accepts nobody.
    """
    return worker.applied.get(service, 0) >= generation or not worker.ready or worker.silent >= MUTE


def _described(
    instances: Iterable[Instance], protocol: Protocol, unhealthy: frozenset[str], before: Described
) -> Described:
    """The instances that speak a protocol. One that has not changed stays the same object: few of 10,000 do."""
    now: Described = {}
    for item in instances:
        healthy = item.id not in unhealthy
        known = before.get(item.id)
        if known is not None and known[0] is item and known[1].healthy is healthy:
            now[item.id] = known
        elif item.protocol is protocol:
            host, port = item.address.host, item.address.port
            now[item.id] = item, Endpoint(item.id, host, port, item.weight, item.takes_new, healthy)
    return now
