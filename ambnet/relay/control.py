"""A worker's end of the socket to its parent: messages in and out, without ever waiting."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ambnet.relay.loop import IN, OUT, Loop
from ambnet.relay.protocol import Event, Frames, Message, encode

PIECE = 256 * 1024
MOST_WAITING = 1024 * 1024  # bytes for a parent that does not read; above it, what may be lost is


class Control:
    """Sends messages and gives those that come to `on_message`; has the loop call `on_end` once the parent has gone.

    Events are dropped while a parent that does not read is `behind`.
    """

    def __init__(
        self, loop: Loop, sock: socket.socket, on_message: Callable[[Message], None], on_end: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._frames = Frames()
        self._waiting = bytearray()
        self._ended = False
        loop.add(sock.fileno(), IN, self._ready)

    @property
    def behind(self) -> bool:
        """Whether a megabyte waits for the parent to read it: no time for what can be said later."""
        return len(self._waiting) > MOST_WAITING

    def send(self, message: Message) -> None:
        """Send now, or as soon as the parent reads."""
        if self._ended or (self.behind and isinstance(message, Event)):
            return
        self._waiting += encode(message)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self._sock.send(self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        self._loop.modify(self._sock.fileno(), IN | OUT if self._waiting else IN)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT and not self._ended:
            self._receive()

    def _receive(self) -> None:
        try:
            piece = self._sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._end()
            return
        for message in self._frames.feed(piece):
            self._on_message(message)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._loop.discard(self._sock.detach())
            self._loop.call_later(0, self._on_end)  # whoever sends is in the middle of something
