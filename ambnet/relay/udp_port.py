"""A bound UDP socket: datagrams come in by it, and answers leave from the address that was asked."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ambnet.relay.hops import TOLD, tell_hops
from ambnet.relay.loop import IN
from ambnet.relay.sockets import tells_address

if TYPE_CHECKING:
    from ambnet.relay.route import Route
    from ambnet.relay.udp import Datagrams
    from ambnet.relay.udp_session import UdpSession

LARGEST: Final = 65_536  # no datagram is longer: its length has 16 bits, and its own header is counted
BATCH: Final = 32  # datagrams taken before others get their turn
ANCILLARY: Final = socket.CMSG_SPACE(20) + TOLD  # an in6_pktinfo, the one for IPv4 has 12 bytes; and hops

Client = tuple[Any, ...]  # a sockaddr as Python has it: two items for IPv4, four for IPv6
Asked = tuple[int, int, bytes]  # a control message that says which address of ours a datagram came to; see `asked`
Key = tuple[Client, bytes]


def asked(level: int, kind: int, info: bytes) -> tuple[str, Asked]:
    """The address that a datagram came to, and the control message that makes an answer leave from there.

    ip(7): a packet's local address is the second field of an in_pktinfo on the way in, and the source on the way out.
    ipv6(7): an in6_pktinfo begins with it. The interface is left open: the way back need not be the way that it came.
    """
    if level == socket.IPPROTO_IP:
        return socket.inet_ntop(socket.AF_INET, info[4:8]), (level, kind, bytes(4) + info[4:8] + bytes(4))
    return socket.inet_ntop(socket.AF_INET6, info[:16]), (level, kind, info[:16] + bytes(4))


class UdpPort:
    """One bound socket and where its datagrams go. Takes the socket over.

    `sessions` are its clients by their address and the address that they asked: the same client at another address of
    ours is another client.
    """

    __slots__ = (
        *("_batch", "_reading", "_receive", "address", "idle", "relay", "route", "send", "send_proxy", "sessions"),
        *("sock", "tells_address", "tells_hops"),
    )

    def __init__(self, relay: Datagrams, sock: socket.socket, route: Route, idle: float, send_proxy: int) -> None:
        sock.setblocking(False)
        self.relay = relay
        self.sock = sock
        self.route = route
        self.idle = idle
        self.send_proxy = send_proxy
        self.sessions: dict[Key, UdpSession] = {}
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self.send: Callable[..., int] = sock.sendmsg
        self._receive = sock.recvmsg
        self._batch = 1
        self._reading = True
        self.tells_address = tells_address(sock)
        self.tells_hops = False
        relay.loop.add(sock.fileno(), IN, self.ready)

    def ready(self, _events: int) -> None:
        """Take as many datagrams as came at once lately; epoll tells again if some are left."""
        relay, sessions, receive = self.relay, self.sessions, self._receive
        now = relay.loop.now
        for taken in range(self._batch):
            try:
                data, control, flags, client = receive(LARGEST, ANCILLARY)
            except BlockingIOError:
                self._batch = max(1, taken)
                return
            except OSError:
                self.route.counters["udp_errors"] += 1
                return
            if flags & socket.MSG_TRUNC:  # part of a datagram is none
                self.route.counters["udp_errors"] += 1
                continue
            key = (client, control[0][2] if self.tells_address else b"")
            session = sessions.get(key) or relay.welcome(self, key, control)
            if session is not None:
                session.forward(data, now)
        self._batch = min(BATCH, self._batch * 2)

    def ask_for_hops(self) -> None:
        """Have datagrams say from now on how many hops they have left. Asking twice is fine."""
        if not self.tells_hops:
            self.tells_hops = True
            tell_hops(self.sock)

    def stop_reading(self) -> None:
        """Leave what comes to whoever else has this socket; answers still go out by it. Doing so twice is fine."""
        if self._reading:
            self._reading = False
            self.relay.loop.remove(self.sock.fileno())

    def close(self) -> None:
        """Forget every client and close the socket, after this batch of events. Closing twice is fine."""
        for session in list(self.sessions.values()):
            session.end()
        if self.sock.fileno() >= 0:
            # A socket that another process has as well stays in our epoll when we close it (epoll(7), question 6).
            self.stop_reading()
            self.relay.loop.discard(self.sock.detach())
