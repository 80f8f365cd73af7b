"""dynproxy's life: listen, learn, balance, drain."""

from __future__ import annotations

import contextlib
import logging
import time

from ambcore.admission import Admission
from ambcore.model import Address, parse_ip
from ambcore.table import Reader
from ambnet.addresses import local_addresses
from ambnet.daemon import Life, background
from ambnet.etcd import Etcd
from ambnet.http import serve_admin
from dynproxy.config import Front, Settings
from dynproxy.following import following
from dynproxy.health import HealthChecks
from dynproxy.plane import DataPlane
from dynproxy.planes import chosen_plane
from dynproxy.report import Report
from dynproxy.sources import EtcdSource

log = logging.getLogger("dynproxy")


async def proxy(settings: Settings, life: Life) -> int:
    """The whole life; returns the exit code. Raises ConfigError while starting."""
    etcd_config = settings.etcd_config()
    reader = Reader(settings.prefix, Admission(settings.instances_in, own_listeners(settings)))
    async with contextlib.AsyncExitStack() as stack:
        health = HealthChecks(
            settings.check_interval,
            settings.check_timeout,
            lambda service, _: followed.health_changed(service),
        )
        plane = await stack.enter_async_context(chosen_plane(settings, health.soon))
        etcd = await stack.enter_async_context(Etcd(etcd_config))
        followed = await stack.enter_async_context(following(health, plane, settings.fronts))
        names = sorted({front.service for front in settings.fronts})
        for name in names:
            followed.follow(EtcdSource(etcd, name, reader, relist=settings.relist))
        report = Report(settings, etcd, followed, plane, health, life)
        await stack.enter_async_context(serve_admin(settings.admin, report.admin()))
        await stack.enter_async_context(background(health.run))
        log.info("listening for %s", ", ".join(map(_front_text, settings.fronts)))
        await life.unless_stopping(followed.known())
        if not life.stopping.is_set():
            life.ready(f"balancing {', '.join(names)}")
        await life.stopping.wait()
        await drain(plane, settings.drain)
    return 0


def own_listeners(settings: Settings) -> frozenset[Address]:
    """Where this proxy itself answers: an instance there would be a loop."""
    listen = parse_ip(settings.listen or "::")
    hosts = local_addresses() if listen.is_unspecified else {listen}
    return frozenset(Address(str(host), front.port) for host in hosts for front in settings.fronts)


async def drain(plane: DataPlane, seconds: float) -> None:
    """Let open connections finish, and say how that went."""
    started = time.monotonic()
    await plane.drain(seconds)
    cut = sum(service.counters.get("drain_closed", 0) for service in plane.stats().services.values())
    ending = f"connections cut: {cut}" if cut else "every connection finished"
    log.info("drained in %.1f s: %s", time.monotonic() - started, ending)


def _front_text(front: Front) -> str:
    return f"{front.service} on port {front.port}"
