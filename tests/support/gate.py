"""A TCP forwarder on loopback that a test can cut or mute, for the network between a client and its server."""

from __future__ import annotations

import asyncio
from typing import Self


class Gate:
    """An async context manager; `url` leads to `target` (both http URLs) as long as the gate is open."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._links: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self.cut()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Break every connection and refuse new ones until `restore`."""
        self._refusing = True
        self._open.set()
        links = dict(self._links)
        for task, writers in links.items():
            task.cancel()
            for writer in writers:
                writer.transport.abort()
        if links:
            await asyncio.wait(links)

    def mute(self) -> None:
        """Keep every connection and forward nothing: a black hole."""
        self._open.clear()

    def restore(self) -> None:
        """Forward again, what was held back included."""
        self._refusing = False
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
        ways = ((reader, there_writer), (there_reader, writer))
        tasks = {asyncio.create_task(self._copy(*way)) for way in ways}
        self._links.update(dict.fromkeys(tasks, (writer, there_writer)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            self._links.pop(task, None)
        await asyncio.wait(tasks)
        for end in (writer, there_writer):
            end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
