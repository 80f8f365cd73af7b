"""Ask running programs, each by an HTTP GET that is answered in JSON.

Whoever may write to etcd says where they are, so what answers there may be anything: it gets a time, a number of bytes
and one request, without redirects, and is believed only as far as it can be read.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ambcore.text import visible
from ambnet.threads import in_thread

MAX_ANSWER = 8 << 20  # bytes; a proxy's status has some 500 for each instance, and 10,000 of them are the most
MAX_DEPTH = 32  # levels; a status has some ten, and whoever walks through it stands on Python's stack of 1000
AT_ONCE = 32  # requests under way; a fleet of hundreds is asked in a moment and opens few sockets
NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

_NAMES = threading.Semaphore(AT_ONCE)  # those that are resolved now, by whomever


@dataclass(frozen=True, slots=True)
class Failure:
    """Why somebody could not be asked, in a printable line."""

    why: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", visible(self.why))


class _Names(AbstractResolver):
    """Resolves names in threads that may be abandoned: an executor's would keep the program from ending until the last
    name server has not answered. Raises OSError.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of a host."""
        found = await in_thread(lambda: _resolved(host, port, family), "name")
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=NUMERIC)
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def _resolved(host: str, port: int, family: socket.AddressFamily) -> Sequence[Any]:
    """Blocks. Raises OSError, at once when as many names as may be wait for an answer."""
    if not _NAMES.acquire(blocking=False):
        raise OSError(errno.EAGAIN, "too many names wait for an answer")
    try:
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    finally:
        _NAMES.release()


def connector() -> aiohttp.TCPConnector:
    """For a session with servers whose names others choose."""
    return aiohttp.TCPConnector(resolver=_Names())


async def ask(urls: Mapping[str, str], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - of each, not of all
    """What each URL answers, as JSON read, or a Failure, under the URL's key; `timeout` in seconds is for each.

    Raises nothing but what cancels it. The answers are others' words: not checked, not printable.
    """
    turn = asyncio.Semaphore(AT_ONCE)
    patience = aiohttp.ClientTimeout(total=timeout)
    # Not decompressed: a few bytes could become any number.
    async with aiohttp.ClientSession(
        connector=connector(), timeout=patience, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as s:

        async def one(url: str) -> Any:
            async with turn:
                return await _answer(s, url, timeout)

        answers = await asyncio.gather(*map(one, urls.values()))
    return dict(zip(urls, answers, strict=True))


async def _answer(session: aiohttp.ClientSession, url: str, patience: float) -> Any:
    try:
        async with session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response:
            if response.status != 200:
                return Failure(f"{url}: answered {response.status}")
            body = await _body(response)
    except TimeoutError:
        return Failure(f"{url}: no answer in {patience:g} s")
    except aiohttp.ClientConnectorError as error:
        return Failure(f"{url}: {_reason(error.os_error)}")
    except (aiohttp.ClientError, ValueError) as error:
        return Failure(f"{url}: {type(error).__name__}: {error}")
    if body is None:
        return Failure(f"{url}: answered with more than {MAX_ANSWER >> 20} MiB")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Failure(f"{url}: answered with something else than JSON")
    if _is_deep(answer):
        return Failure(f"{url}: answered with JSON of more than {MAX_DEPTH} levels")
    return answer


def _is_deep(document: Any) -> bool:
    """Whether lists and objects lie within one another deeper than MAX_DEPTH."""
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return True


def _reason(error: OSError) -> str:
    """The kernel's words; asyncio puts its own into `strerror`. A resolver's errors are not the kernel's."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """What was answered; None if it is too much."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER:
            return None
    return bytes(body)
