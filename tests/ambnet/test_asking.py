"""Other programs are asked, and whatever answers is survived."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ambnet import asking
from ambnet.asking import Failure, ask
from ambnet.http import Admin, serve_admin
from tests.support.ports import free_port

HEAD = b"HTTP/1.1 200 OK\r\n"


@contextlib.asynccontextmanager
async def answering(answer: bytes, *, then_wait: bool = False) -> AsyncIterator[str]:
    """A server that says this to everybody; its URL."""
    over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if then_wait:
                await over.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/status.json"
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def test_programs_answer_under_their_names_beside_those_that_do_not() -> None:
    port, nobody = free_port(), f"http://127.0.0.1:{free_port()}/"
    admin = Admin(lambda: None, lambda: None, lambda: {"program": "it", "n": 1}, CollectorRegistry())
    async with serve_admin(("127.0.0.1", port), admin):
        answers = await ask({"one": f"http://127.0.0.1:{port}/status.json", "two": nobody}, 10)
    assert answers == {"one": {"program": "it", "n": 1}, "two": Failure(f"{nobody}: Connection refused")}
    assert await ask({}, 1) == {}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nhi!", "something else than JSON"),
        (HEAD + b"Content-Length: 2\r\n\r\n\xff\xfe", "something else than JSON"),
        (HEAD + b"\r\n" + b"[" * 200_000, "something else than JSON"),
        (HEAD + b"\r\n" + b"9" * 10_000, "something else than JSON"),
        (HEAD + b"\r\n" + b'{"a":[' * 300 + b"]}" * 300, "more than 32 levels"),
        (HEAD + b"Content-Length: 9\r\n\r\nhi!", "ClientPayloadError"),
        (HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n{}", ""),
        (b"SSH-2.0-OpenSSH_9.2\x1b[2J\r\n\r\n", ""),
        (b"", "ServerDisconnectedError"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
    ],
)
async def test_what_is_no_answer_is_a_failure_that_says_why(answer: bytes, why: str) -> None:
    async with answering(answer) as url:
        failure = (await ask({"it": url}, 10))["it"]
    assert isinstance(failure, Failure)
    assert failure.why.startswith(f"{url}: ")
    assert why in failure.why
    assert failure.why.isprintable()


async def test_an_answer_as_deep_as_it_may_be_is_read() -> None:
    async with answering(HEAD + b"\r\n" + b"[" * asking.MAX_DEPTH + b"]" * asking.MAX_DEPTH) as url:
        assert isinstance((await ask({"it": url}, 10))["it"], list)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1/", "file:///etc/passwd", "http://[::1", "http://a:x/"]
)
async def test_what_is_no_url_is_a_failure(url: str) -> None:
    assert isinstance((await ask({"it": url}, 10))["it"], Failure)


async def test_silence_lasts_as_long_as_the_patience() -> None:
    async with answering(HEAD + b"Content-Length: 9\r\n\r\n{", then_wait=True) as url:
        assert await ask({"it": url}, 0.2) == {"it": Failure(f"{url}: no answer in 0.2 s")}


def test_a_name_that_nobody_resolves_keeps_no_program_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever announces such names would hold up every tool; so would the name server of a network that is down."""
    answer, answered = threading.Event(), threading.Event()

    def mute(*_: Any, **__: Any) -> list[Any]:
        answer.wait(20)
        answered.set()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", mute)
    urls = {str(number): f"http://host-{number}.invalid:1/" for number in range(asking.AT_ONCE + 1)}
    answers = asyncio.run(ask(urls, 0.5))
    assert not answered.is_set()
    assert answers["0"] == Failure("http://host-0.invalid:1/: no answer in 0.5 s")
    assert answers[str(asking.AT_ONCE)] == Failure(f"{urls[str(asking.AT_ONCE)]}: Resource temporarily unavailable")
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "name":
            thread.join(20)
    assert answered.is_set()


async def test_a_server_is_found_by_its_name() -> None:
    async with answering(HEAD + b"Content-Length: 2\r\n\r\n{}") as url:
        assert await ask({"it": url.replace("127.0.0.1", "localhost")}, 10) == {"it": {}}


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_ANSWER", 1 << 20)
    async with answering(HEAD + b"\r\n" + b" " * (3 << 20), then_wait=True) as url:
        assert await ask({"it": url}, 30) == {"it": Failure(f"{url}: answered with more than 1 MiB")}


async def test_a_compressed_answer_is_not_unpacked() -> None:
    body = zlib.compress(b"{}" + b" " * (64 << 20))
    head = HEAD + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(head + body) as url:
        assert await ask({"it": url}, 30) == {"it": Failure(f"{url}: answered with something else than JSON")}
