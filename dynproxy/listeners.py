"""The sockets that a dynproxy listens on: its parent process makes them and keeps them, its workers serve them.

A worker that dies is replaced, and what arrives meanwhile waits in the socket's queue.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ambcore.errors import ConfigError
from ambcore.model import Protocol, join_host_port
from ambnet.relay.inherited import forget
from ambnet.relay.protocol import udp_route
from ambnet.relay.sockets import open_datagrams, open_listeners
from dynproxy.config import Front

log = logging.getLogger("listen")

Where = tuple[str, int]


@dataclass
class Listening:
    """One front's sockets: `streams` are shared by all workers, of `datagrams` each worker has a list of its own."""

    front: Front
    streams: list[socket.socket] = field(default_factory=list)
    datagrams: list[list[socket.socket]] = field(default_factory=list)

    @property
    def served(self) -> Front:
        """The front as far as its ports could be had."""
        return replace(self.front, protocol=Protocol.TCP) if self.streams and not self.datagrams else self.front

    def routes(self, slot: int) -> Iterator[tuple[str, list[socket.socket]]]:
        """Each route's name with the sockets that the worker in this slot serves."""
        if self.streams:
            yield self.front.service, self.streams
        if self.datagrams:
            yield udp_route(self.front.service), self.datagrams[slot]

    def places(self) -> Iterator[tuple[str, Where]]:
        """Each route's name with the addresses that it is listened on."""
        for name, sockets in self.routes(0):
            for sock in sockets:
                yield name, sock.getsockname()[:2]

    def close(self) -> None:
        """Close all of them. Closing twice is fine."""
        for sock in self._sockets:
            sock.close()

    def give_up(self) -> None:
        """Close them for good: whoever comes after us need not have them either."""
        forget(self._sockets)
        self.close()

    @property
    def _sockets(self) -> list[socket.socket]:
        return [*self.streams, *(sock for sockets in self.datagrams for sock in sockets)]


def listen(front: Front, host: str | None, workers: int) -> Listening:
    """Listen for a front, on its own address or on `host` (None: all). Raises ConfigError when a port cannot be had.

    One for both protocols goes without UDP where that port alone is taken: many hosts have a resolver of their own.
    """
    made = Listening(front)
    address = front.host or host
    early = front.host is not None  # whoever asks for a front of its own knows that the address is ours
    where = join_host_port(address or "*", front.port)
    try:
        if front.protocol is not Protocol.UDP:
            made.streams = open_listeners(address, front.port, early=early)
        if front.protocol is not Protocol.TCP:
            bound = open_datagrams(address, front.port, workers, early=early)
            made.datagrams = [bound[slot::workers] for slot in range(workers)]
    except OSError as error:
        if not made.streams:
            raise ConfigError("PORT", f"{where}: {error.strerror}") from error
        log.warning(
            "%s: UDP port %s: %s; %s is served by TCP alone", front.service, where, error.strerror, front.service
        )
    return made
