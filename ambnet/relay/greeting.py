"""A client that has to say first, in a header of the PROXY protocol, who it stands for.

The header is looked at where it lies and taken out once it is whole, to the byte: what follows stays in the kernel
until an instance has answered, as any client's first bytes do.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from ambcore.errors import ProxyHeaderError
from ambcore.proxy_protocol import MAX_V2, End, Header, decode
from ambnet.relay.dial import Phase
from ambnet.relay.loop import HANGS_UP, IN
from ambnet.relay.sockets import Socket, reset_on_close

if TYPE_CHECKING:
    from ambnet.relay.relay import Relay
    from ambnet.relay.route import Route

PATIENCE: Final = 5.0  # seconds for the header; the specification asks for 3 at least, as a lost packet takes that long


class Greeting:
    """Reads one client's header, then hands it back to the relay. `peer` is the other end of its connection."""

    __slots__ = ("_peer", "_sock", "_until", "_watched", "phase", "relay", "route")

    def __init__(self, relay: Relay, route: Route, client: int, peer: End) -> None:
        self.relay = relay
        self.route = route
        self.phase: Phase | None = Phase.GREETING
        self._peer = peer
        self._sock = Socket(fileno=client)
        self._until = relay.loop.now + PATIENCE
        self._watched = False

    def start(self) -> None:
        """Read what has come with the connection, which most often is all of it; else wait."""
        if not self._look(IN):
            self._watched = True
            self.relay.loop.add(self._sock.fileno(), IN | HANGS_UP, self._look)
            self.relay.dial_waits(self)

    def tick(self, now: float) -> None:
        """Refuse a client that took too long."""
        if now >= self._until:
            self._refuse("no header within 5 s")

    def reconsider(self) -> None:
        """The route's instances have changed, which is of no interest yet."""

    def give_up(self) -> None:
        """Close the client with RST."""
        reset_on_close(self._sock)
        self.relay.loop.discard(self._sock.detach())
        self.relay.dial_ended(self)

    def _look(self, events: int) -> bool:
        """Look at what has come so far; whether that was enough to decide."""
        try:
            seen = self._sock.recv(MAX_V2, socket.MSG_PEEK)
            header = decode(seen)
        except BlockingIOError:
            return False
        except OSError:
            self._leave()
            return True
        except ProxyHeaderError as error:
            self._refuse(str(error))
            return True
        if header is not None:
            self._end(header)
            return True
        if not seen:
            self._leave()
        elif events & HANGS_UP:
            self._refuse("it ended within its header")
        else:  # epoll is level-triggered: have it say no more before there is more
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(seen) + 1)
            return False
        return True

    def _end(self, header: Header) -> None:
        """Go on as the one whom the header names."""
        sock = self._sock
        sock.recv(header.size)
        if self._watched:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self.relay.loop.remove(sock.fileno())
        self.relay.greeted(self, sock.detach(), header.source or self._peer, header.destination)

    def _leave(self) -> None:
        """It has gone without a word, as those do who only ask whether anybody listens."""
        self.route.counters["client_gone"] += 1
        self.give_up()

    def _refuse(self, why: str) -> None:
        self.route.counters["proxy_header_refused"] += 1
        self.relay.say_seldom("header", f"{self.route.name}: PROXY header from {self._peer[0]} refused: {why}")
        self.give_up()
