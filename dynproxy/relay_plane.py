"""The relay plane: our epoll relay in worker processes, beside the control plane and undisturbed by it.

The parent makes the listening sockets and keeps them: a worker that dies is replaced, and what arrives meanwhile waits
in the socket's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from ambcore.backoff import backoff
from ambcore.errors import ConfigError
from ambcore.model import Instance, Protocol, join_host_port
from ambnet.daemon import background, cancel
from ambnet.relay.protocol import (
    Configure,
    Endpoints,
    Message,
    ServiceSetup,
    Stats,
)
from ambnet.relay.sockets import open_listeners
from ambnet.relay.upstream import Endpoint
from dynproxy.config import Settings
from dynproxy.plane import PlaneStats
from dynproxy.traffic import closed, total
from dynproxy.worker_process import Worker

log = logging.getLogger("relay")

MUTE = 2  # looks, one a second, without a word of a worker before changes no longer wait for it
SILENCE = 10  # looks without a word before it counts as hung; it speaks each second
RESTART = (0.05, 5.0)  # seconds before a worker is replaced: first and longest


Described = dict[str, tuple[Instance, Endpoint]]  # by instance id: what the registry says, and what a worker is told


class RelayPlane:
    """A DataPlane in user space. Use `relay_plane`."""

    def __init__(self, settings: Settings, listeners: Mapping[str, list[socket.socket]], why: str) -> None:
        self._why = why
        self._listeners = listeners
        self._configure = _configuration(settings, listeners)
        self._workers = [Worker(self._on_word) for _ in range(settings.workers)]
        self._latest: dict[str, Endpoints] = {}
        self._described: dict[str, Described] = {}
        self._generation = 0
        self._past: list[Stats] = []
        self._progress = asyncio.Condition()
        self._draining = False
        self._pulses: set[asyncio.Task[None]] = set()

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        """Give a service's instances to every worker; see DataPlane."""
        self._generation += 1
        generation = self._generation
        self._described[service] = described = _described(instances, unhealthy, self._described.get(service, {}))
        endpoints = tuple(endpoint for _, endpoint in described.values())
        self._latest[service] = Endpoints(service, generation, endpoints)
        for worker in self._workers:
            worker.tell(self._latest[service])
        await self._until(lambda: all(_sees(worker, service, generation) for worker in self._workers))

    def stats(self) -> PlaneStats:
        """The sum over all workers, those that died included; see DataPlane."""
        return PlaneStats(
            plane="relay",
            why=self._why,
            processes=tuple(worker.pid for worker in self._workers if worker.ready),
            healthy=self._draining or all(worker.ready for worker in self._workers),
            services=total([*self._past, *(worker.stats for worker in self._workers)]),
        )

    async def drain(self, seconds: float) -> None:
        """Close the listeners and let the workers finish; see DataPlane."""
        self._draining = True
        for worker in self._workers:
            worker.drain(seconds)
        self._close_listeners()
        # A worker enforces the time itself; the second more is for one that cannot.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + 1):
                await asyncio.gather(*(worker.ended.wait() for worker in self._workers))

    async def aclose(self) -> None:
        """End every worker; see DataPlane."""
        self._draining = True
        self._close_listeners()
        for worker in self._workers:
            worker.kill()
        await asyncio.gather(*(worker.exit_code() for worker in self._workers))
        await cancel(*self._pulses)

    async def start(self) -> None:
        """Launch the workers; returns when each accepts connections."""
        for worker in self._workers:
            self._launch(worker)
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
                self._launch(worker)
            except OSError as shortage:
                log.error("no worker can be started: %s", shortage.strerror)  # noqa: TRY400 - one line says it all
                continue
            self._past = [Stats(0, total([*self._past, closed(self._workers[slot].stats)]))]
            self._workers[slot] = worker
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

    def _launch(self, worker: Worker) -> None:
        every = [listener for listeners in self._listeners.values() for listener in listeners]
        worker.launch(self._configure, every)
        for latest in self._latest.values():
            worker.tell(latest)

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
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.close()


@contextlib.asynccontextmanager
async def relay_plane(settings: Settings, why: str = "it works anywhere") -> AsyncIterator[RelayPlane]:
    """A running relay plane; `why` says why it is this one. Raises ConfigError when a port cannot be had."""
    listeners: dict[str, list[socket.socket]] = {}
    for front in settings.fronts:
        try:
            listeners.setdefault(front.service, []).extend(open_listeners(settings.listen, front.port))
        except OSError as error:
            where = join_host_port(settings.listen or "*", front.port)
            raise ConfigError("PORT", f"{where}: {error.strerror}") from error
    plane = RelayPlane(settings, listeners, why)
    await plane.start()
    try:
        async with background(plane.supervise):
            yield plane
    finally:
        await plane.aclose()


def _configuration(settings: Settings, listeners: Mapping[str, list[socket.socket]]) -> Configure:
    limits = replace(settings.limits, park=settings.park, park_max=settings.park_max)
    services = tuple(
        ServiceSetup(service, tuple(item.fileno() for item in sockets), settings.policy, settings.on_removal.seconds)
        for service, sockets in listeners.items()
    )
    return Configure(services, limits, settings.drain, settings.log_level)


def _sees(worker: Worker, service: str, generation: int) -> bool:
    """Whether no client can come to a worker that does not know this generation.

    One that starts knows nothing and lets them wait; one that hangs accepts nobody.
    """
    return worker.applied.get(service, 0) >= generation or not worker.ready or worker.silent >= MUTE


def _described(instances: Iterable[Instance], unhealthy: frozenset[str], before: Described) -> Described:
    """The TCP instances. One that has not changed stays the same object: few of 10,000 do."""
    now: Described = {}
    for item in instances:
        healthy = item.id not in unhealthy
        known = before.get(item.id)
        if known is not None and known[0] is item and known[1].healthy is healthy:
            now[item.id] = known
        elif item.protocol is Protocol.TCP:
            host, port = item.address.host, item.address.port
            now[item.id] = item, Endpoint(item.id, host, port, item.weight, item.takes_new, healthy)
    return now
