"""How a worker gets listening sockets while it runs: a RouteSetup and the sockets themselves, in one packet.

Descriptors of one process mean nothing to another; SCM_RIGHTS makes them the other's (unix(7)). A socket pair of their
own, since ancillary data needs a call of its own, and SOCK_SEQPACKET keeps setup and sockets together.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace

from ambnet.relay.loop import IN, Loop
from ambnet.relay.protocol import HEADER, RouteSetup, decode, encode

PACKET = 4096  # bytes of a setup; a service's name is the only long part
MOST = 64  # sockets in one packet; the kernel's limit is 253 (SCM_MAX_FD)


def hand_in(door: socket.socket, setup: RouteSetup) -> None:
    """Give a worker the sockets that `setup` names by our own numbers; ours stay open. Raises OSError."""
    socket.send_fds(door, [encode(setup)], list(setup.listeners))


class Doors:
    """The worker's end: calls `on_route` with each setup that comes, its `listeners` being this process's numbers."""

    def __init__(self, loop: Loop, sock: socket.socket, on_route: Callable[[RouteSetup], None]) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_route = on_route
        loop.add(sock.fileno(), IN, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            packet, fds, _flags, _address = socket.recv_fds(self._sock, PACKET, MOST)
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        if not packet:  # the parent has gone, which the control socket tells as well
            self._loop.discard(self._sock.detach())
            return
        for fd in fds:
            os.set_blocking(fd, False)
        setup = decode(packet[HEADER.size :])
        if not isinstance(setup, RouteSetup):
            raise ValueError(f"not for the doors: {setup!r}")  # noqa: TRY004 - what came is wrong, not its type
        self._on_route(replace(setup, listeners=tuple(fds)))
