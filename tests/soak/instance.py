"""An instance of a service, in a container: says its name, then gives back what it gets. The standard library only.

`python instance.py NAME tcp|udp PORT`. A TCP client is greeted with the name, filled up with blanks to GREETING bytes,
and then gets every byte back; its end is answered by ours. A datagram comes back with the name in front.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import cast

GREETING = 32  # bytes
CHUNK = 1 << 16
BACKLOG = 4096


def greeting(name: str) -> bytes:
    """What an instance says of itself."""
    return name.encode().ljust(GREETING)


async def give_back(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client."""
    try:
        writer.write(greeting(name))
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError:
        writer.transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """Serves all clients."""

    def __init__(self, name: str) -> None:
        self._greeting = greeting(name)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember how to answer."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        if self._transport is not None:
            self._transport.sendto(self._greeting + data, addr)


async def main(name: str, protocol: str, port: int) -> None:
    """Serve until SIGTERM, which a container's first process hears only if it listens for it."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    if protocol == "udp":
        await loop.create_datagram_endpoint(lambda: Datagrams(name), ("0.0.0.0", port))  # noqa: S104
    else:
        await asyncio.start_server(
            lambda reader, writer: give_back(name, reader, writer),
            "0.0.0.0",  # noqa: S104 - in a network of its own
            port,
            backlog=BACKLOG,
        )
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
