"""registrar's life: follow the container, keep its record, take it back at the end."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

from ambcore.containers import EngineInfo
from ambcore.errors import RegistryUnavailableError
from ambcore.model import IPAddress
from ambnet.addresses import source_address_towards
from ambnet.daemon import Life, background
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd
from ambnet.http import serve_admin
from ambnet.lease import LeaseKeeper
from ambnet.registry import Registry
from ambnet.threads import in_thread
from registrar.agent import Agent
from registrar.config import Settings
from registrar.report import Report

log = logging.getLogger("registrar")

PATIENCE = 60.0  # seconds of one wait for a lease; there is always a next one
SHORT_ENGINE_ID = 12  # characters of an engine's id that tell two hosts of one name apart


async def register(settings: Settings, life: Life) -> int:
    """The whole life; returns the exit code. Raises ConfigError while starting."""
    config = settings.etcd_config()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(settings.docker))
        etcd = await stack.enter_async_context(Etcd(config))
        keeper = await stack.enter_async_context(LeaseKeeper(etcd, settings.ttl))

        async def open_records(info: EngineInfo) -> Registry:
            owner = settings.host_id or owner_of(info)
            registry = Registry(etcd, keeper, owner=owner, epoch=secrets.token_hex(8), prefix=settings.prefix)
            return await stack.enter_async_context(registry)

        agent = Agent(
            settings.wish,
            engine,
            open_records,
            advertise=settings.advertise,
            route=route_to(config.endpoints),
            resync=settings.resync,
        )
        report = Report(settings, life, agent=agent, engine=engine, etcd=etcd, keeper=keeper)
        async with serve_admin(settings.admin, report.admin()):
            async with background(agent.run):
                await life.unless_stopping(both_reached(agent, keeper))
                if not life.stopping.is_set():
                    life.ready(f"registering {settings.container} as {settings.service}")
                await life.stopping.wait()
            await take_back(agent, keeper, settings.on_exit)
    return 0


async def both_reached(agent: Agent, keeper: LeaseKeeper) -> None:
    """Wait, however long it takes, until Docker and etcd have answered."""
    await agent.seen.wait()
    while not keeper.lease:
        with suppress(RegistryUnavailableError):
            await keeper.held(PATIENCE)


async def take_back(agent: Agent, keeper: LeaseKeeper, on_exit: str) -> None:
    """Delete the record by ending its lease, within a second; or leave it to the rest of its lease."""
    await keeper.close(revoke=on_exit == "deregister")
    if agent.held is not None:
        ending = "deregistered" if on_exit == "deregister" else "left to its lease:"
        log.info("%s %s/%s: registrar ends", ending, agent.held.service, agent.record)


def owner_of(info: EngineInfo) -> str:
    """A host's name for people, and enough of its engine's id that two hosts of one name differ."""
    return f"{info.name}:{info.id[:SHORT_ENGINE_ID]}"


def route_to(endpoints: tuple[str, ...]) -> Callable[[], Awaitable[IPAddress | None]]:
    """A function that finds the address this host uses towards the first of these URLs that it has a route to."""
    hosts = [host for url in endpoints if (host := urlsplit(url).hostname)]

    def look() -> IPAddress | None:
        return next((ip for host in hosts if (ip := source_address_towards(host)) is not None), None)

    async def route() -> IPAddress | None:
        return await in_thread(look, "route")

    return route
