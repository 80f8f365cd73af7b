"""How a worker gets listening sockets while it runs: a RouteSetup and the sockets themselves, in one packet.

Descriptors of one process mean nothing to another; SCM_RIGHTS makes them the other's (unix(7)). A socket pair of their
own, since ancillary data needs a call of its own, and SOCK_SEQPACKET keeps setup and sockets together. The order to
close a listener takes this way, too: it must not overtake the listener.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import replace

from ambnet.relay.loop import IN, Loop
from ambnet.relay.protocol import HEADER, Close, RouteSetup, decode, encode

PACKET = 4096  # bytes of a setup; a service's name is the only long part
MOST = 64  # sockets in one packet; the kernel's limit is 253 (SCM_MAX_FD)


def hand_in(door: socket.socket, order: RouteSetup | Close) -> None:
    """Give a worker the sockets that a setup names by our own numbers, and ours stay open; or have it close one.

    Raises OSError: BlockingIOError while it has not taken enough of what was handed in before.
    """
    socket.send_fds(door, [encode(order)], list(order.listeners) if isinstance(order, RouteSetup) else [])


class Doors:
    """The worker's end: calls `on_order` with each order that comes, a setup's `listeners` being its own numbers."""

    def __init__(self, loop: Loop, sock: socket.socket, on_order: Callable[[RouteSetup | Close], None]) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_order = on_order
        loop.add(sock.fileno(), IN, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            packet, fds, flags, _address = socket.recv_fds(self._sock, PACKET, MOST)
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        if not packet:  # the parent has gone, which the control socket tells as well
            self._loop.discard(self._sock.detach())
            return
        if flags & socket.MSG_CTRUNC:  # clients would wait there for ever; whoever replaces us is given them again
            raise OSError(errno.EMFILE, "we were handed more sockets than we may have open files")
        for fd in fds:
            os.set_blocking(fd, False)
        match decode(packet[HEADER.size :]):
            case RouteSetup() as setup:
                self._on_order(replace(setup, listeners=tuple(fds)))
            case Close() as close:
                self._on_order(close)
            case other:
                raise ValueError(f"not for the doors: {other!r}")
