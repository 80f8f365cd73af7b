"""The admin server: `/healthz`, `/readyz`, `/metrics`, `/status.json`, `/explain.json` and the status page at `/`,
read-only, apart from the data's ports.

A program gives it two questions (healthy? ready?), each answered by None or by the reason why not, a status document,
a Prometheus registry and what it knows of a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ambcore.errors import ConfigError
from ambcore.findings import Finding
from ambcore.model import join_host_port, split_host_port
from ambnet.daemon import background
from ambnet.options import option
from ambnet.page.board import Board, OwnBoard, keep_history
from ambnet.page.history import Counts, History
from ambnet.relay.inherited import inherited
from ambnet.threads import in_thread

if TYPE_CHECKING:
    from ambnet.page.server import Pages

log = logging.getLogger("admin")

BACKLOG = 128
MAX_REQUEST = 16384  # bytes; every request here is a bare GET
MOST = 128  # connections at once: whoever opens more must not take the files that the program itself needs
PATIENCE = 15.0  # seconds a connection may last without a whole request
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_NAME = 512  # characters of what /explain.json is asked for; a record's key has no more bytes


@dataclass(frozen=True, slots=True)
class Admin:
    """What a program tells about itself. `health` and `readiness` return None, or one line saying what is wrong;
    `explain` what was decided about a service, a container or an instance: nothing where there is none of that name.
    `traffic` gives what each service carried, for the page's plots; it is asked every 15 s and has to be cheap.
    `but` is what has to be said with it when all is well, empty if nothing.
    """

    health: Callable[[], str | None]
    readiness: Callable[[], str | None]
    status: Callable[[], Mapping[str, Any]]
    metrics: CollectorRegistry
    explain: Callable[[str], Sequence[Finding]] = lambda _: ()
    traffic: Callable[[], Mapping[str, Counts]] = dict
    but: Callable[[], str] = str


def parse_admin(text: str) -> tuple[str, int]:
    """`ADDR:PORT`, or `:PORT` and `PORT` for loopback only; raises ValueError."""
    if text.startswith(":") or text.isdigit():
        text = f"127.0.0.1:{text.lstrip(':')}"
    return split_host_port(text)


@dataclass(frozen=True, kw_only=True)
class AdminOptions:
    """Where the admin server listens."""

    HEADING = "what it tells"

    admin: tuple[str, int] | None = option(
        "--admin",
        default=None,
        help="serve the status page, /healthz /readyz /metrics /status.json here",
        parse=parse_admin,
        env=["AMB_ADMIN"],
        metavar="ADDR:PORT",
    )


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a Host that is a foreign name: a web page elsewhere must not read us through the reader's browser.

    DNS rebinding needs a name of the attacker's; IP literals, `localhost` and bare host names (a container's) are
    none.
    """
    asked = request.headers.get("Host", "")  # who sends none is no browser
    host = asked.rpartition(":")[0] if asked.rpartition(":")[2].isdigit() else asked
    if "." in host and not _is_ip(host):
        raise web.HTTPForbidden(text="this Host is not served here\n")
    response = await handler(request)
    for name, value in (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):
        response.headers.setdefault(name, value)
    return response


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class _Page:
    """The status page. It is loaded when somebody asks for it: its memory is for those who use it."""

    def __init__(self, board: Board, history: History) -> None:
        self._board = board
        self._history = history
        self._made: Pages | None = None
        self._one_at_a_time = asyncio.Lock()

    def add_to(self, application: web.Application) -> None:
        """Serve it."""
        for path, verb in (
            ("/", "fleet"),
            ("/service/{name}", "service"),
            ("/live", "listen"),
            ("/static/{name}", "static"),
        ):
            application.router.add_get(path, self._handler(verb))
        application.on_shutdown.append(self._close)

    def _handler(self, verb: str) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            answer: web.StreamResponse = await getattr(await self._pages(), verb)(request)
            return answer

        return handler

    async def _pages(self) -> Pages:
        async with self._one_at_a_time:
            if self._made is None:
                self._made = await in_thread(self._load, "page")
            return self._made

    def _load(self) -> Pages:
        from ambnet.page.server import Pages  # noqa: PLC0415 - jinja2 is 4 MiB, and few ask for the page

        return Pages(self._board, self._history)

    async def _close(self, _: web.Application) -> None:
        if self._made is not None:
            await self._made.live.aclose()


def _application(admin: Admin) -> web.Application:
    def verdict(reason: str | None) -> web.Response:
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def healthz(_: web.Request) -> web.Response:
        return verdict(admin.health())

    async def readyz(_: web.Request) -> web.Response:
        reason = admin.readiness()
        but = "" if reason else admin.but()
        return web.Response(text=f"ok, but {but}\n") if but else verdict(reason)

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


def admin_sockets(where: tuple[str, int] | None, option: str = "--admin") -> list[socket.socket]:
    """Listening sockets for an admin server, those that a process before us gave where it did; none for None.

    Raises ConfigError if the address cannot be had.
    """
    made: list[socket.socket] = []
    try:
        for address in _resolved(*where) if where is not None else ():
            handed = inherited().take(socket.SOCK_STREAM, address[0], address[1])
            made += handed or [_listening(address)]
    except OSError as error:
        for sock in made:
            sock.close()
        raise ConfigError(option, f"{join_host_port(*where or ('', 0))}: {error.strerror}") from error
    return made


def _resolved(host: str, port: int) -> list[tuple[str, int]]:
    """Every address of a host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((str(address[0]), port) for *_, address in found))


def _listening(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=BACKLOG)


class _Full(asyncio.Protocol):
    """Resets a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - the type's, not ours
        transport.abort()


@contextlib.asynccontextmanager
async def _visited(
    application: web.Application, where: tuple[str, int], sockets: Sequence[socket.socket] | None
) -> AsyncIterator[None]:
    """Serve while the body runs: only so many visitors at once, and none that waits, lest they wear us out. OSError."""
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=1.0,
        handler_cancellation=True,
        keepalive_timeout=PATIENCE,
        lingering_time=1.0,  # for the rest of what nobody asked for
    )
    await runner.setup()

    def visitor() -> asyncio.Protocol:
        server = runner.server
        return _Full() if server is None or len(server.connections) >= MOST else server()

    loop = asyncio.get_running_loop()
    doors: list[asyncio.Server] = []
    try:
        if sockets is None:
            doors.append(await loop.create_server(visitor, *where))
        else:
            doors += [await loop.create_server(visitor, sock=sock) for sock in sockets]
        yield
    finally:
        for door in doors:
            door.close()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serve_admin(
    where: tuple[str, int] | None,
    admin: Admin,
    *,
    board: Board | None = None,
    more: Mapping[str, Handler] = MappingProxyType({}),
    option: str = "--admin",
    sockets: Sequence[socket.socket] | None = None,
) -> AsyncIterator[None]:
    """Serve while the body runs, on `sockets` if they were made before; with `where` None serve nothing. Raises
    ConfigError if the address cannot be had.

    The page shows `board`, or else this program alone; `more` are further paths.
    """
    if where is None:
        yield
        return
    history = History()
    application = _application(admin)
    for path, handler in more.items():
        application.router.add_get(path, handler)
    _Page(board or OwnBoard(socket.gethostname(), admin), history).add_to(application)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(_visited(application, where, sockets))
        except OSError as error:
            raise ConfigError(option, f"{join_host_port(*where)}: {error.strerror}") from error
        log.info("admin on http://%s", join_host_port(*where))
        await stack.enter_async_context(background(lambda: keep_history(history, admin.traffic)))
        yield
