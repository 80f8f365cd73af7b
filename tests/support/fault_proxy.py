"""A TCP proxy on loopback that does to the bytes between a client and its server what a test says.

    with FaultProxy("127.0.0.1:6379") as proxy:         # or a URL, as in `proxy.url` then, too; unix:///PATH is one
        proxy.both_ways(Toxic(latency=0.5, jitter=0.2))
        proxy.set(to_client=Toxic(cut_after=1000))      # the other way is clean again
        proxy.mute(), proxy.reset(), proxy.cut(), proxy.restore()

It lives in a thread of its own, so that a test may block; what it is told counts at once, for open connections too. An
end and a reset are carried through as what they are. What it cannot do is to lose a SYN: the kernel accepts for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import struct
import sys
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from tests.support.ports import free_port

T = TypeVar("T")

PIECE = 16384  # most bytes read at once
UNDER_WAY = 512  # pieces of one direction; a sender of more has to wait
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # man 7 socket, SO_LINGER


@dataclass(frozen=True, slots=True)
class Toxic:
    """What is done to one direction; nothing, unless said."""

    latency: float = 0.0  # seconds that a piece is under way
    jitter: float = 0.0  # seconds more or less, drawn evenly; pieces keep their order
    rate: float = math.inf  # bytes a second
    slice: int = PIECE  # most bytes that arrive at once
    gap: float = 0.0  # seconds between such slices
    hole: bool = False  # nothing arrives, neither bytes nor ends; all that was sent does once it is filled
    cut_after: int = sys.maxsize  # bytes of one connection: then both its ends are reset


CLEAN = Toxic()
MUTE = Toxic(hole=True)


@dataclass(eq=False)
class _Way:
    """One direction of one connection. A piece is its bytes and when they are due; none is an end, None a reset."""

    source: socket.socket
    sink: socket.socket
    to_server: bool
    pieces: asyncio.Queue[tuple[float, bytes | None]] = field(default_factory=lambda: asyncio.Queue(UNDER_WAY))


class FaultProxy:
    """A context manager, with or without `async`. `port` is where it listens.

    `accepted` counts connections so far, `beginnings` are the first bytes that their clients sent.
    """

    def __init__(self, target: str, listen: str = "127.0.0.1") -> None:
        scheme, slashes, address = target.rpartition("://")
        host, _, port = address.rpartition(":")
        self._target: str | tuple[str, int] = address if scheme == "unix" else (host, int(port))
        self._listen = listen
        self.port = free_port(listen)
        self.url = f"{'tcp' if scheme == 'unix' else scheme}{slashes}{listen}:{self.port}"
        self.accepted = 0
        self.beginnings: list[bytes] = []
        self._toxics = {True: CLEAN, False: CLEAN}  # to the server, to the client
        self._chance = random.Random(0)
        self._links: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._changed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"fault proxy {self.url}")
        self._thread.start()
        self._do(self._accept_from_now())
        return self

    def __exit__(self, *failure: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *failure: object) -> None:
        self.__exit__(*failure)

    # What a test says, from any thread; it counts on return

    def set(self, *, to_server: Toxic = CLEAN, to_client: Toxic = CLEAN) -> None:
        """Treat the two directions so from now on."""

        async def change() -> None:
            self._toxics = {True: to_server, False: to_client}
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

        self._do(change())

    def both_ways(self, toxic: Toxic) -> None:
        """Treat both directions alike."""
        self.set(to_server=toxic, to_client=toxic)

    def mute(self) -> None:
        """Keep every connection, accept new ones, and forward nothing: a black hole."""
        self.both_ways(MUTE)

    def reset(self) -> None:
        """Reset every open connection, at both ends."""
        self._do(self._reset())

    def cut(self) -> None:
        """Reset every open connection and refuse new ones until `restore`."""
        self._do(self._refuse())
        self.reset()

    def restore(self) -> None:
        """Do no harm any more: what was held back arrives, new connections are accepted."""
        self.set()
        self._do(self._accept_from_now())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # Connections

    async def _accept_from_now(self) -> None:
        if self._accepting is None:
            listener = socket.create_server((self._listen, self.port), backlog=1024)
            listener.setblocking(False)
            self._accepting = asyncio.create_task(self._accept(listener))

    async def _refuse(self) -> None:
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            await asyncio.wait({accepting})

    async def _reset(self) -> None:
        for link in self._links:
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                self.accepted += 1
                link = asyncio.create_task(self._serve(client))
                self._links.add(link)
                link.add_done_callback(self._links.discard)

    async def _serve(self, client: socket.socket) -> None:
        """One connection, to its end; one that does not end well is reset at both its ends."""
        ended_well = False
        with client, socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET) as server:
            server.setblocking(False)
            try:
                with contextlib.suppress(OSError):
                    await self._loop.sock_connect(server, self._target)
                    await self._carry(client, server)
                    ended_well = True
            finally:
                if not ended_well:
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    async def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Forward both ways until both have ended. Raises OSError."""
        for end in (client, server):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = (_Way(client, server, to_server=True), _Way(server, client, to_server=False))
        try:
            async with asyncio.TaskGroup() as group:
                for way in ways:
                    group.create_task(self._read(way))
                    group.create_task(self._write(way))
        except* OSError as errors:
            raise OSError(str(errors.exceptions[0])) from errors

    # One direction

    async def _read(self, way: _Way) -> None:
        due, data = 0.0, b" "
        while data:
            try:
                data = await self._loop.sock_recv(way.source, PIECE)
            except ConnectionError:
                await way.pieces.put((due, None))
                return
            if way.to_server and not due:
                self.beginnings.append(data[:64])
            toxic = self._toxics[way.to_server]
            late = toxic.latency + self._chance.uniform(-toxic.jitter, toxic.jitter)
            due = max(due, self._loop.time() + late)
            await way.pieces.put((due, data))

    async def _write(self, way: _Way) -> None:
        """Let pieces arrive until the end of them. Raises OSError, also where a connection is to be cut."""
        passed = 0
        while True:
            due, data = await way.pieces.get()
            await asyncio.sleep(due - self._loop.time())
            toxic = await self._open(way)
            if data is None:
                raise ConnectionResetError
            if not data:
                way.sink.shutdown(socket.SHUT_WR)
                return
            while data:
                left = max(0, toxic.cut_after - passed)
                piece = data[: min(toxic.slice, left)]
                await self._loop.sock_sendall(way.sink, piece)
                passed, data = passed + len(piece), data[len(piece) :]
                if passed >= toxic.cut_after:
                    raise ConnectionResetError
                if pause := toxic.gap + len(piece) / toxic.rate:
                    await asyncio.sleep(pause)
                toxic = await self._open(way)

    async def _open(self, way: _Way) -> Toxic:
        """What to do to this direction now, once it is no hole."""
        while self._toxics[way.to_server].hole:
            await self._changed.wait()
        return self._toxics[way.to_server]
