"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/status.json` and `/explain.json`, read-only, apart from the
data's ports.

A program gives it two questions (healthy? ready?), each answered by None or by the reason why not, a status document,
a Prometheus registry and what it knows of a name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ambcore.errors import ConfigError
from ambcore.findings import Finding
from ambcore.model import join_host_port, split_host_port
from ambnet.options import option

log = logging.getLogger("admin")

MAX_REQUEST = 16384  # bytes; every request here is a bare GET
MAX_NAME = 512  # characters of what /explain.json is asked for; a record's key has no more bytes


@dataclass(frozen=True, slots=True)
class Admin:
    """What a program tells about itself. `health` and `readiness` return None, or one line saying what is wrong;
    `explain` what was decided about a service, a container or an instance: nothing where there is none of that name.
    """

    health: Callable[[], str | None]
    readiness: Callable[[], str | None]
    status: Callable[[], Mapping[str, Any]]
    metrics: CollectorRegistry
    explain: Callable[[str], Sequence[Finding]] = lambda _: ()


def parse_admin(text: str) -> tuple[str, int]:
    """`ADDR:PORT`, or `:PORT` and `PORT` for loopback only; raises ValueError."""
    if text.startswith(":") or text.isdigit():
        text = f"127.0.0.1:{text.lstrip(':')}"
    return split_host_port(text)


@dataclass(frozen=True, kw_only=True)
class AdminOptions:
    """Where the admin server listens."""

    admin: tuple[str, int] | None = option(
        "--admin",
        default=None,
        help="serve /healthz /readyz /metrics /status.json here",
        parse=parse_admin,
        env=["AMB_ADMIN"],
        metavar="ADDR:PORT",
    )


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse a Host that is a foreign name: a web page elsewhere must not read us through the reader's browser.

    DNS rebinding needs a name of the attacker's; IP literals, `localhost` and bare host names (a container's) are
    none.
    """
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    if "." in host and not _is_ip(host):
        raise web.HTTPForbidden(text="this Host is not served here\n")
    response = await handler(request)
    response.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
    return response


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _application(admin: Admin) -> web.Application:
    def verdict(reason: str | None) -> web.Response:
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def healthz(_: web.Request) -> web.Response:
        return verdict(admin.health())

    async def readyz(_: web.Request) -> web.Response:
        return verdict(admin.readiness())

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(admin.metrics)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status(_: web.Request) -> web.Response:
        return web.json_response(admin.status(), dumps=lambda value: json.dumps(value, indent=2) + "\n")

    async def explain(request: web.Request) -> web.Response:
        name = request.query.get("of", "")
        if not 1 <= len(name) <= MAX_NAME:
            raise web.HTTPBadRequest(text="expected ?of= and the name of a service, a container or an instance\n")
        return web.json_response([finding.document() for finding in admin.explain(name)])

    application = web.Application(middlewares=[_guard], client_max_size=MAX_REQUEST)
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/status.json", status)
    application.router.add_get("/explain.json", explain)
    return application


@contextlib.asynccontextmanager
async def serve_admin(where: tuple[str, int] | None, admin: Admin) -> AsyncIterator[None]:
    """Serve while the body runs; with `where` None serve nothing. Raises ConfigError if the address cannot be had."""
    if where is None:
        yield
        return
    runner = web.AppRunner(_application(admin), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, *where).start()
        except OSError as error:
            raise ConfigError("--admin", f"{join_host_port(*where)}: {error.strerror}") from error
        log.info("admin on http://%s", join_host_port(*where))
        yield
    finally:
        await runner.cleanup()
