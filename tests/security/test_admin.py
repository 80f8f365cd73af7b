"""The admin server among people who mean harm: nothing to change, nothing to read from elsewhere, no wearing it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from prometheus_client import CollectorRegistry

from ambnet import http
from ambnet.http import MOST, Admin, serve_admin
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

PATHS = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/status.json",
    "/explain.json?of=a",
    "/live",
    "/service/a",
    "/static/x",
)
CHANGING = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    where = free_port()
    admin = Admin(lambda: None, lambda: None, lambda: {"program": "some"}, CollectorRegistry())
    async with serve_admin(("127.0.0.1", where), admin):
        yield where


async def ask(port: int, request: bytes, seconds: float = 20) -> bytes:
    """All that comes back until the other side closes; a reset ends it, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    with contextlib.suppress(ConnectionError):
        writer.write(request)
        async with asyncio.timeout(seconds):
            while piece := await reader.read(65536):
                answer += piece
    writer.close()
    return bytes(answer)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def request(method: str, path: str, *headers: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@pytest.mark.parametrize("method", CHANGING)
async def test_no_path_takes_a_request_that_could_change_anything(port: int, method: str) -> None:
    for path in PATHS:
        assert status(await ask(port, request(method, path))) in {400, 404, 405}, path


async def test_no_other_site_may_read_an_answer(port: int) -> None:
    for path in PATHS[:6]:
        answer = await ask(port, request("GET", path, "Origin: http://evil.example"))
        assert b"access-control-" not in answer.lower()
        assert b"X-Content-Type-Options: nosniff" in answer


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "a.b", "evil.", "[::1].evil.example", "1.2.3"]
)
async def test_a_foreign_name_is_no_host_of_ours(port: int, host: str) -> None:
    answer = await ask(port, f"GET /status.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) in {400, 403}
    assert b"program" not in answer


async def test_who_sends_no_host_is_no_browser(port: int) -> None:
    """HTTP/1.0, as simple health checks speak it."""
    assert status(await ask(port, b"GET /healthz HTTP/1.0\r\n\r\n")) == 200


@pytest.mark.parametrize(
    "headers",
    [
        ["X: " + "x" * 20_000],
        [f"X-{number}: x" for number in range(1000)],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: -1"],
        ["Host: 127.0.0.1\x00"],
    ],
    ids=["a long one", "a thousand", "two lengths", "a negative length", "a nul"],
)
async def test_headers_beyond_reason_are_refused(port: int, headers: Sequence[str]) -> None:
    assert status(await ask(port, request("GET", "/status.json", *headers))) == 400
    assert status(await ask(port, request("GET", "/healthz"))) == 200


async def test_a_line_without_end_is_cut_off(port: int) -> None:
    assert status(await ask(port, b"GET /" + b"x" * 200_000)) in {0, 400}


async def test_a_body_of_gigabytes_is_not_read(port: int) -> None:
    answer = await ask(port, request("GET", "/healthz", "Content-Length: 10000000000") + b"x" * 100_000)
    assert status(answer) in {0, 200, 400, 413}
    assert status(await ask(port, request("GET", "/healthz"))) == 200


@pytest.mark.parametrize("said", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
async def test_who_asks_no_whole_question_is_shown_out(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that drips a byte now and then, too."""
    monkeypatch.setattr(http, "PATIENCE", 0.5)
    where = free_port()
    admin = Admin(lambda: None, lambda: None, dict, CollectorRegistry())
    async with serve_admin(("127.0.0.1", where), admin):
        reader, writer = await asyncio.open_connection("127.0.0.1", where)
        writer.write(said)

        async def drip() -> None:
            while True:
                writer.write(b"x" if said else b"")
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while await reader.read(1000):
                    pass
        dripping.cancel()
        writer.close()


async def test_who_opens_many_connections_takes_so_many_and_no_more(port: int) -> None:
    """The program keeps the files that it needs for itself; when they leave, others are served again."""
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST)]
    refused = [await ask(port, request("GET", "/healthz")) for _ in range(5)]
    assert refused == [b""] * 5
    for _, writer in crowd:
        writer.close()

    async def served() -> bool:
        return status(await ask(port, request("GET", "/healthz"))) == 200

    await eventually_async(served, 20)
