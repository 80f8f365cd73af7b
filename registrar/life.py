"""registrar's life: follow the container, or all of them, keep the records, take them back at the end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Protocol

from ambcore.containers import EngineInfo
from ambcore.errors import RegistryUnavailableError
from ambcore.fleet import Kind
from ambcore.model import IPAddress
from ambcore.registration.conventions import Conventions
from ambcore.registration.extract import Wish
from ambnet.announce import Announcer, admin_for_others, announced
from ambnet.daemon import Life, background
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd
from ambnet.http import serve_admin
from ambnet.lease import LeaseKeeper
from ambnet.registry import Registry
from ambnet.route import route_to
from registrar.agent import Agent
from registrar.answers import Verify
from registrar.config import Settings
from registrar.host_agent import HostAgent, Office
from registrar.host_report import HostReport
from registrar.means import Means
from registrar.orphans import Orphans
from registrar.report import ContainerReport, Report

log = logging.getLogger("registrar")

PATIENCE = 60.0  # seconds of one wait for a lease; there is always a next one
SHORT_ENGINE_ID = 12  # characters of an engine's id that tell two hosts of one name apart
FEW = 4  # records that are named one by one when registrar ends


class Registering(Protocol):
    """An agent: of one container, or of the whole host."""

    @property
    def seen(self) -> asyncio.Event:
        """Set once Docker told what it is asked for."""

    @property
    def standing(self) -> Sequence[str]:
        """The records that etcd confirmed, as `service/id`."""

    async def run(self) -> None:
        """Endless."""


async def register(settings: Settings, life: Life) -> int:
    """The whole life; returns the exit code. Raises ConfigError while starting."""
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(settings.docker))
        etcd = await stack.enter_async_context(Etcd(settings.etcd_config()))
        keeper = await stack.enter_async_context(LeaseKeeper(etcd, settings.ttl))
        announcer = announcer_of(settings, etcd, keeper, lambda: services_of(agent))
        means = Means(life, engine, etcd, keeper, announcer)
        wish = settings.wish
        agent, report = of_one(wish, settings, means, stack) if wish else of_all(settings, means, stack)
        async with serve_admin(settings.admin, report.admin()), announced(announcer):
            async with background(agent.run):
                await life.unless_stopping(both_reached(agent, keeper))
                if not life.stopping.is_set():
                    life.ready(f"registering {settings.container or 'all containers'}")
                await life.stopping.wait()
            await take_back(agent, keeper, settings.on_exit)
    return 0


def of_one(wish: Wish, settings: Settings, means: Means, stack: AsyncExitStack) -> tuple[Registering, Report]:
    """The agent that keeps the record of the container that was named."""

    async def open_records(info: EngineInfo) -> Registry:
        return await stack.enter_async_context(registry(settings, means, info, secrets.token_hex(8)))

    agent = Agent(
        wish,
        means.engine,
        open_records,
        advertise=settings.advertise,
        route=route_to(settings.etcd_config().endpoints),
        resync=settings.resync,
        verify=Verify(settings.verify),
    )
    return agent, ContainerReport(wish, means, agent)


def of_all(settings: Settings, means: Means, stack: AsyncExitStack) -> tuple[Registering, Report]:
    """The agent that keeps the records of all containers."""

    async def open_office(info: EngineInfo) -> Office:
        epoch = secrets.token_hex(8)
        records = await stack.enter_async_context(registry(settings, means, info, epoch))
        conventions = Conventions(
            settings.host_id or info.name,
            explicit=settings.explicit,
            internal=settings.internal,
            network=settings.network,
            tags=settings.tags,
        )
        owner = settings.host_id or owner_of(info)
        return Office(records, conventions, Orphans(means.etcd, settings.prefix, owner=owner, epoch=epoch))

    agent = HostAgent(
        means.engine,
        open_office,
        advertise=settings.advertise,
        route=route_to(settings.etcd_config().endpoints),
        resync=settings.resync,
        verify=Verify(settings.verify),
    )
    return agent, HostReport(means, agent)


def registry(settings: Settings, means: Means, info: EngineInfo, epoch: str) -> Registry:
    """Where the records of this host's containers are kept. Whose they are, a new container of registrar knows again:
    nothing of its own, such as its host name, is in it.
    """
    owner = settings.host_id or owner_of(info)
    if means.announcer:
        means.announcer.owner = owner
    return Registry(means.etcd, means.keeper, owner=owner, epoch=epoch, prefix=settings.prefix)


def announcer_of(
    settings: Settings, etcd: Etcd, keeper: LeaseKeeper, services: Callable[[], Iterable[str]]
) -> Announcer | None:
    """Who tells the fleet of this registrar, under the lease of its records; None if nobody shall."""
    if settings.announce == "no":
        return None
    towards_etcd = route_to(settings.etcd_config().endpoints)

    async def route() -> IPAddress | None:
        return settings.advertise or await towards_etcd()

    admin = partial(admin_for_others, settings, settings.admin, route)
    return Announcer(Kind.REGISTRAR, etcd, keeper, settings.fleet_prefix, admin, services)


def services_of(agent: Registering) -> set[str]:
    """Those that it has records of."""
    return {name.partition("/")[0] for name in agent.standing}


async def both_reached(agent: Registering, keeper: LeaseKeeper) -> None:
    """Wait, however long it takes, until Docker and etcd have answered."""
    await agent.seen.wait()
    while not keeper.lease:
        with suppress(RegistryUnavailableError):
            await keeper.held(PATIENCE)


async def take_back(agent: Registering, keeper: LeaseKeeper, on_exit: str) -> None:
    """Delete the records by ending their lease, within a second; or leave them to the rest of it."""
    await keeper.close(revoke=on_exit == "deregister")
    ending = "deregistered" if on_exit == "deregister" else "left to its lease:"
    names = agent.standing
    for name in names if len(names) <= FEW else [f"{len(names)} records"]:
        log.info("%s %s: registrar ends", ending, name)


def owner_of(info: EngineInfo) -> str:
    """A host's name for people, and enough of its engine's id, if it has one, that two hosts of one name differ."""
    return f"{info.name}:{info.id[:SHORT_ENGINE_ID]}" if info.id else info.name
