"""dynproxy's life: listen, learn, balance, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ambcore.admission import Admission
from ambcore.fleet import Kind
from ambcore.model import Address, IPAddress, parse_ip
from ambcore.proxy_protocol import local
from ambcore.table import Reader
from ambnet.addresses import interface_address, local_addresses
from ambnet.announce import TTL as ANNOUNCED
from ambnet.announce import Announcer, admin_for_others, announced
from ambnet.daemon import Life, background, cancel
from ambnet.etcd import Etcd
from ambnet.fleet import DrainWatch
from ambnet.http import admin_sockets, serve_admin
from ambnet.lease import LeaseKeeper
from ambnet.relay.inherited import inherited, kept
from ambnet.route import route_to
from ambnet.tcpcheck import knock
from dynproxy.config import Settings
from dynproxy.following import Following, following
from dynproxy.health import HealthChecks
from dynproxy.holding import Holding
from dynproxy.memory import Memory
from dynproxy.parts import Parts
from dynproxy.plane import DataPlane
from dynproxy.planes import chosen_plane
from dynproxy.report import Report, before_containers
from dynproxy.sources import EtcdSource
from dynproxy.succession import Succession, succession
from dynproxy.unreachable import Unreachables

if TYPE_CHECKING:
    from dynproxy.docker_source import Containers
    from dynproxy.links import Links

log = logging.getLogger("dynproxy")

FIRST_LOOKS = 2.0  # seconds in which the first checks of instances have an answer, unless there are hundreds
SOON = 1.0  # seconds in which a daemon that is there tells about our containers


async def proxy(settings: Settings, life: Life) -> int:
    """The whole life; returns the exit code. Raises ConfigError while starting."""
    async with contextlib.AsyncExitStack() as stack:
        turns = await stack.enter_async_context(succession(settings.hand_over))
        wants_etcd = settings.fronts or settings.links
        etcd = await stack.enter_async_context(Etcd(settings.etcd_config())) if wants_etcd else None
        admin = admin_sockets(settings.admin) if turns.waiting else []
        containers = await known_containers(settings, life, stack, turns) if settings.containers else None
        if life.stopping.is_set():
            return 0
        health = HealthChecks(
            settings.check_interval,
            settings.check_timeout,
            lambda service, _: followed.health_changed(service),
            knock=partial(knock, words=local(settings.send_proxy)) if settings.send_proxy else knock,
        )
        expected = containers.fronts if containers else ()
        plane = await stack.enter_async_context(chosen_plane(settings, health.soon, expected, waiting=turns.waiting))
        followed = await stack.enter_async_context(following(health, plane, settings.fronts, settings.slow_start))
        memory = Memory(settings.state if etcd else None)
        await stack.enter_async_context(background(memory.run))
        drains = await known_drains(settings, etcd, memory, stack) if etcd else None
        links = (
            await follow_services(settings, etcd, drains, followed, memory, health, stack) if etcd and drains else None
        )
        announcer = await announcer_of(settings, etcd, followed, health, stack) if etcd else None
        report = Report(
            Parts(settings, etcd, containers, links, followed, plane, health, life, drains, announcer, memory)
        )
        if containers:
            await stack.enter_async_context(background(partial(containers.serve, followed)))
        duties = await stack.enter_async_context(contextlib.AsyncExitStack())  # one process's at a time
        await duties.enter_async_context(background(health.run))
        prepared = asyncio.create_task(prepare(report, health, turns))
        stack.push_async_callback(cancel, prepared)
        if turns.waiting:
            await life.unless_stopping(turns.our_turn(prepared))
            if life.stopping.is_set():
                return 0
            await plane.take_charge()
        admin = admin or admin_sockets(settings.admin)
        turns.serve(lambda: [*kept(), *admin], plane, life)
        await duties.enter_async_context(announced(announcer))
        await duties.enter_async_context(serve_admin(settings.admin, report.admin(), sockets=admin))
        log.info("listening for %s", _names(settings))
        await life.unless_stopping(prepared)
        if not life.stopping.is_set():
            life.ready(f"balancing {_names(settings)}")
        await life.stopping.wait()
        await turns.leave(plane)
        draining = asyncio.create_task(drain(plane, settings.drain))
        if turns.over:
            await duties.aclose()
        await draining
    return 0


async def prepare(report: Report, health: HealthChecks, turns: Succession) -> None:
    """Until all is known that we serve. One that takes over shall not ask instances that the one before it knows to be
    ill: it looks at them first. Raises ConfigError if it has no use for what it was given.
    """
    await report.known()
    if turns.waiting:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOKS):
                await health.first_looks()
        turns.check()
    inherited().leave()


async def known_containers(
    settings: Settings, life: Life, stack: contextlib.AsyncExitStack, turns: Succession
) -> Containers:
    """The containers to stand for, followed as long as `stack`.

    Unless there are other services to listen for, each was looked at by then, or we are told to stop: which ports there
    are to listen on is not known before, and what a process before this one left in the kernel goes on meanwhile.
    """
    from ambnet.dockerd import Engine  # noqa: PLC0415 - Docker's SDK is a third of our memory, and few need it
    from dynproxy.docker_source import Containers  # noqa: PLC0415 - likewise

    engine = await stack.enter_async_context(Engine(settings.docker, tls=settings.docker_tls))
    containers = Containers(engine, settings.containers, settings.listen, resync=settings.resync)
    await stack.enter_async_context(background(containers.run))
    if not settings.fronts:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                await life.unless_stopping(containers.known.wait())
    if not settings.fronts and not containers.known.is_set() and not life.stopping.is_set():
        async with serve_admin(None if turns.waiting else settings.admin, before_containers(containers, life)):
            await life.unless_stopping(containers.known.wait())
    return containers


async def known_drains(settings: Settings, etcd: Etcd, memory: Memory, stack: contextlib.AsyncExitStack) -> DrainWatch:
    """What operators drained, followed and remembered as long as `stack`."""
    drains = DrainWatch(etcd, settings.fleet_prefix, relist=settings.relist, recall=memory.recall)
    memory.keep(drains.prefix, drains.watch)
    stack.push_async_callback(memory.leave, drains.prefix)
    return await stack.enter_async_context(drains)


async def announcer_of(
    settings: Settings, etcd: Etcd, followed: Following, health: HealthChecks, stack: contextlib.AsyncExitStack
) -> Announcer | None:
    """Who tells the fleet of this dynproxy, with a lease as long as `stack`; None if nobody shall."""
    if settings.announce == "no":
        return None

    def services() -> Iterator[str]:
        return (source.service for source in followed.sources if isinstance(source, EtcdSource))

    route = route_to(settings.etcd_config().endpoints)
    admin = partial(admin_for_others, settings, settings.admin, route)
    keeper = await stack.enter_async_context(LeaseKeeper(etcd, ANNOUNCED, quiet=True))
    down = Unreachables(services, health)
    return Announcer(Kind.DYNPROXY, etcd, keeper, settings.fleet_prefix, admin, services, unreachable=down)


async def follow_services(  # noqa: PLR0917 - each is a part of its own
    settings: Settings,
    etcd: Etcd,
    drains: DrainWatch,
    followed: Following,
    memory: Memory,
    health: HealthChecks,
    stack: contextlib.AsyncExitStack,
) -> Links | None:
    """Follow every service of the command line in etcd; and, as long as `stack`, those that consumers ask for."""
    own = set(own_listeners(settings))
    reader = Reader(settings.prefix, Admission(settings.instances_in, own, docker_bridge()))

    def source(service: str) -> EtcdSource:
        holding = Holding(service, settings.hold, partial(health.unhealthy, service), etcd.time_to_live)
        return EtcdSource(etcd, service, reader, drains, relist=settings.relist, holding=holding, memory=memory)

    for name in sorted({front.service for front in settings.fronts}):
        followed.follow(source(name))
    if not settings.links:
        return None
    from ambnet.dockerd import Engine  # noqa: PLC0415 - as above
    from dynproxy.links import Links  # noqa: PLC0415 - likewise

    engine = await stack.enter_async_context(Engine(settings.docker, tls=settings.docker_tls))
    links = Links(engine, followed, source, own, listen=settings.listen, resync=settings.resync)
    await stack.enter_async_context(background(links.run))
    return links


def own_listeners(settings: Settings) -> frozenset[Address]:
    """Where this proxy itself answers: an instance there would be a loop."""
    listen = parse_ip(settings.listen or "::")
    hosts = local_addresses() if listen.is_unspecified else {listen}
    return frozenset(Address(str(host), front.port) for host in hosts for front in settings.fronts)


def docker_bridge() -> frozenset[IPAddress]:
    """This host's address on Docker's default bridge, where it has one."""
    address = interface_address("docker0")
    return frozenset() if address is None else frozenset({address})


async def drain(plane: DataPlane, seconds: float) -> None:
    """Let open connections finish, and say how that went."""
    started = time.monotonic()
    await plane.drain(seconds)
    cut = sum(service.counters.get("drain_closed", 0) for service in plane.stats().services.values())
    ending = f"connections cut: {cut}" if cut else "every connection finished"
    log.info("drained in %.1f s: %s", time.monotonic() - started, ending)


def _names(settings: Settings) -> str:
    fronts = [f"{front.service} on port {front.port}" for front in settings.fronts]
    links = ["what containers ask for"] if settings.links else []
    return ", ".join([*fronts, *(f"the ports of {name}" for name in settings.containers), *links])
