"""The page over HTTP: its policy, its files, its events, and what they may cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from ambcore.findings import Finding, Level
from ambnet.http import Admin, serve_admin
from ambnet.page import live
from tests.ambnet.page.documents import dynproxy, instance, service
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

PATIENCE = 20.0


class Proxy:
    """A program whose status document is at hand."""

    def __init__(self) -> None:
        self.document = dynproxy(service("web", instance("a")))
        self.looks = 0

    def status(self) -> dict[str, Any]:
        self.looks += 1
        return self.document

    def admin(self) -> Admin:
        explain = lambda name: [Finding(Level.RED, "record", f"<b>{name}</b>", "look")]  # noqa: E731
        return Admin(lambda: None, lambda: None, self.status, CollectorRegistry(), explain)


@pytest.fixture
async def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
async def base(proxy: Proxy) -> AsyncIterator[str]:
    port = free_port()
    async with serve_admin(("127.0.0.1", port), proxy.admin()):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as made:
        yield made


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """(name, data) of each event."""
    name = ""
    while line := (await answer.content.readuntil(b"\n")).decode().rstrip("\n"):
        pass
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline(
    base: str, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{base}/") as answer:
        text, headers = await answer.text(), answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in headers
    assert not re.search(r"<style| style=|<script>| on[a-z]+=|https?://(?!127\.0\.0\.1|10\.)", text)


async def test_files_are_cached_for_ever_under_the_hash_of_their_contents(
    base: str, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{base}/") as answer:
        paths = re.findall(r'"(/static/page\.[0-9a-f]+\.(?:css|js))"', await answer.text())
    assert len(paths) == 2
    for path in paths:
        async with session.get(f"{base}{path}") as answer:
            assert (answer.status, "immutable" in answer.headers["Cache-Control"]) == (200, True)
    async with session.get(f"{base}/static/page.js") as answer:
        assert answer.status == 404


async def test_a_service_has_a_page_with_what_is_known_of_it(base: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{base}/service/web") as answer:
        text = await answer.text()
    assert "&lt;b&gt;web&lt;/b&gt;" in text
    async with session.get(f"{base}/service/not%20a%20name") as answer:
        assert answer.status == 404
    async with session.get(f"{base}/", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403


async def test_a_page_hears_of_a_change_and_only_of_what_changed(
    base: str, session: aiohttp.ClientSession, proxy: Proxy
) -> None:
    async with session.get(f"{base}/") as answer:
        found = re.search(r'data-version="([^"]+)"', await answer.text())
    assert found
    async with session.get(f"{base}/live", params={"of": "", "version": found[1]}) as answer:
        heard = events(answer)
        assert (await anext(heard))[0] == "beat"
        proxy.document = dynproxy(service("web", instance("a"), instance("b")))
        while True:
            name, news = await anext(heard)
            if name == "patch" and any(">b</span>" in html for html in news["set"].values()):
                break
        assert not any(">a</span>" in html for html in news["set"].values() if html.startswith("<tr"))


async def test_a_page_of_another_life_gets_everything(base: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{base}/live", params={"version": "gone.7"}) as answer:
        heard = events(answer)
        name, news = await anext(heard)
        while name != "patch":
            name, news = await anext(heard)
    assert any(">a</span>" in html for html in news["set"].values())
    assert "services" in news["lists"]


async def test_a_page_that_is_open_is_made_as_soon_as_it_can_be(
    base: str, session: aiohttp.ClientSession, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a former life of this server listens before anything was shown here; the first looks fail."""
    monkeypatch.setattr(live, "PERIOD", 0.02)
    endless: dict[str, Any] = {}
    for _ in range(5000):
        endless = {"": endless}
    document, proxy.document = proxy.document, dynproxy(deep=endless)
    async with session.get(f"{base}/live", params={"version": "gone.7"}) as answer:
        heard = events(answer)
        assert (await anext(heard))[0] == "beat"
        await eventually_async(lambda: _true(proxy.looks > 2), PATIENCE, "looks that fail")
        async with session.get(f"{base}/") as page:
            assert page.status == 500
        proxy.document = document
        assert (await anext(heard))[0] == "patch"


async def test_nothing_is_looked_at_while_no_page_is_open(
    base: str, session: aiohttp.ClientSession, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who closes the page is noticed by then."""
    monkeypatch.setattr(live, "PERIOD", 0.02)
    async with session.get(f"{base}/live") as answer:
        await answer.content.readuntil(b"\n\n")
        before = proxy.looks
        await eventually_async(lambda: _true(proxy.looks > before + 3), PATIENCE, "looks while it is open")

    async def calm() -> bool:
        before = proxy.looks
        await asyncio.sleep(0.3)
        return proxy.looks == before

    await eventually_async(calm, PATIENCE, "no looks any more")


async def _true(value: bool) -> bool:
    return value


async def test_readers_are_limited(base: str, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 2)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            answer = await stack.enter_async_context(session.get(f"{base}/live"))
            await answer.content.readuntil(b"\n\n")
        async with session.get(f"{base}/live") as refused:
            assert refused.status == 503


async def test_a_reader_who_does_not_read_is_let_go(base: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is reset when it has not taken a message for so long; nobody works for it any more."""
    from ambnet.page import server

    monkeypatch.setattr(live, "PERIOD", 0.02)
    monkeypatch.setattr(live, "SHARE", 1.0)
    monkeypatch.setattr(server, "SLOW", 0.3)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", int(base.rpartition(":")[2])))
        reader.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")

        async def let_go() -> bool:
            for turn in range(5):
                looks = proxy.looks
                rows = (instance(f"i{n}", weight=(looks + turn) % 200 + 2) for n in range(200))
                proxy.document = dynproxy(service("web", *rows))
                await asyncio.sleep(0.2)
                if looks < 20 or proxy.looks > looks:
                    return False
            return True

        await eventually_async(let_go, PATIENCE, "nobody looks for it")


async def test_a_server_that_ends_takes_leave_of_open_pages(session: aiohttp.ClientSession, proxy: Proxy) -> None:
    """Their streams end as they should, before aiohttp would cut them: a cut one is an error in a reader."""
    port = free_port()
    async with serve_admin(("127.0.0.1", port), proxy.admin()):
        answer = await session.get(f"http://127.0.0.1:{port}/live")
        await answer.content.readuntil(b"\n\n")
        rest = asyncio.create_task(answer.content.read())
    assert b"event: beat" in await rest
    answer.close()


def test_the_page_is_loaded_by_whoever_asks_for_it_alone() -> None:
    """Its libraries are not in a program whose page nobody opens."""
    program = "import sys, dynproxy.proxy, registrar.life; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "ambnet.http" in loaded
    assert not loaded & {"jinja2", "markupsafe", "ambnet.page.server", "ambnet.page.render"}
