"""The page's addresses: `/`, `/service/NAME`, `/live` and two files. Everything else of HTTP is `ambnet.http`'s."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from importlib.resources import files

from aiohttp import web

from ambcore.model import MAX_SERVICE, check_name
from ambnet.page.board import Board
from ambnet.page.history import History
from ambnet.page.live import Live
from ambnet.page.render import Renderer

SLOW = 20.0  # seconds in which a page has to take a message
MAX_QUERY = 100  # characters
FOR_EVER = "public, max-age=31536000, immutable"  # the name changes with the contents
POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)
KINDS = {"css": "text/css", "js": "text/javascript"}


class Pages:
    """The pages of a board, made when the first is asked for."""

    def __init__(self, board: Board, history: History) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        urls = [self._file("page.css"), self._file("page.js")]
        self._renderer = Renderer(board.title, *urls)
        self.live = Live(board, self._renderer, history)

    def _file(self, name: str) -> str:
        """Keep a file of ours; returns the path that it is served at."""
        body = files("ambnet.page").joinpath("static", name).read_bytes()
        stem, _, kind = name.partition(".")
        served = f"{stem}.{hashlib.sha256(body).hexdigest()[:16]}.{kind}"
        self._files[served] = (body, KINDS[kind])
        return f"/static/{served}"

    async def fleet(self, request: web.Request) -> web.StreamResponse:
        """`/`, and `/?q=` with what matches."""
        return await self._page("", request.query.get("q", "")[:MAX_QUERY].strip())

    async def service(self, request: web.Request) -> web.StreamResponse:
        """`/service/NAME`, which need not exist yet."""
        return await self._page(_name(request.match_info["name"]), "")

    async def _page(self, name: str, query: str) -> web.Response:
        snapshot, version = await self.live.current(name)
        html = self._renderer.page(snapshot, service=name, query=query, version=version, live="/live", at=time.time())
        headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        return web.Response(text=html, content_type="text/html", headers=headers)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """A file of ours, by the hash in its name for ever."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound(text="no such file\n")
        return web.Response(body=found[0], content_type=found[1], charset="utf-8", headers={"Cache-Control": FOR_EVER})

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """`/live?of=NAME&version=V`: server-sent events; a reader that stops reading is let go."""
        name = request.query.get("of", "")
        version = request.headers.get("Last-Event-ID") or request.query.get("version", "")
        if self.live.full:
            raise web.HTTPServiceUnavailable(text="too many pages are open\n", headers={"Retry-After": "10"})
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        messages = self.live.messages(_name(name) if name else "", version)
        async with contextlib.aclosing(messages):
            async for message in messages:
                try:
                    async with asyncio.timeout(SLOW):
                        await response.write(message)
                except (TimeoutError, ConnectionError):
                    if request.transport is not None:
                        request.transport.abort()
                    break
        return response


def _name(text: str) -> str:
    """A service's name as it may be; anything else is not found."""
    try:
        return check_name("service", text, MAX_SERVICE)
    except ValueError as error:
        raise web.HTTPNotFound(text=f"{error}\n") from error
