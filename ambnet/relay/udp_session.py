"""A UDP client and the instance that it talks to, by a connected socket of its own.

Connected, as only such a socket is told by ICMP that its instance does not listen or cannot be reached. Then the
session goes on with another instance at once, and takes along the datagram that has met that, if it is short.
"""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from ambnet.relay.hops import UNKNOWN, limit_hops
from ambnet.relay.loop import IN
from ambnet.relay.sockets import DATAGRAM, Socket, hear_unreachable
from ambnet.relay.udp_port import LARGEST, Asked, Key, UdpPort

if TYPE_CHECKING:
    from ambnet.relay.upstream import Upstream

KEPT: Final = 4096  # bytes of a datagram that is kept until it is answered: 16 MiB for 4,096 clients at worst
TRIES: Final = 8  # instances that one datagram is sent to before it is given up
ANSWERS: Final = 16  # taken before others get their turn
ERRORS: Final = 64  # taken from a socket's queue of errors at once

# What ICMP and the routing table say of an instance that cannot be talked to. Other errors are this machine's.
UNREACHABLE: Final = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EACCES,  # a firewall's word in ICMPv6
    }
)


class UdpSession:
    """One client at one address of ours. `upstream` is None while no instance is talked to.

    `control` makes its answers leave from the address that it asked, `header` goes in front of all that it sends, with
    `hops` where those are limited. `unanswered` is the last datagram, kept to be sent again, and `refused` are the
    instances that could not be reached since the last answer.
    """

    __slots__ = (
        "_answered",
        "_batch",
        "_control",
        "_header",
        "_hops",
        "_relay",
        "_sock",
        "among",
        "idle",
        "key",
        "port",
        "refused",
        "seen",
        "source",
        "unanswered",
        "upstream",
    )

    among: OrderedDict[Any, None]

    def __init__(self, port: UdpPort, key: Key, control: Asked | None, header: bytes, hops: int = UNKNOWN) -> None:
        self._relay = port.relay
        self.port = port
        self.key = key
        self.source = key[0][0].removeprefix("::ffff:")
        self.idle = port.idle
        self.seen = port.relay.loop.now
        self.upstream: Upstream | None = None
        self.unanswered: bytes | None = None
        self.refused: tuple[Upstream, ...] = ()
        self._control = () if control is None else (control,)
        self._header = header
        self._hops = hops
        self._sock: Socket | None = None
        self._answered = False
        self._batch = 1

    # --- from the client ----------------------------------------------------------------------------------------------

    def forward(self, data: bytes, now: float) -> None:
        """Send one datagram of the client's to its instance, or to another one if that has gone."""
        if self.seen != now:
            self._heard(now)
        upstream = self.upstream
        if upstream is None or upstream.left is not None:
            self._leave()
            if len(self.refused) >= TRIES:
                self.refused = ()
            if not (self._join() or (self.refused and self._forgive())):
                self.port.route.counters["udp_no_instance"] += 1
                return
        if self._header:
            data = self._header + data
        self.unanswered = data if len(data) <= KEPT else None
        self._send(data)

    def _heard(self, now: float) -> None:
        self.seen = now
        roll = self._relay.roll
        if self._answered and self.among is roll.newcomers:
            roll.trust(self)
        else:
            self.among.move_to_end(self)
        if self.upstream is not None:
            self.upstream.traffic.changed()

    def _send(self, data: bytes) -> None:
        """Send a datagram, to the next instance and the next when this one cannot be reached."""
        counters = self.port.route.counters
        while self._sock is not None and self.upstream is not None:
            try:
                self._sock.send(data)
            except OSError as error:  # that an earlier datagram was refused is told to the next one, which stays here
                if error.errno in UNREACHABLE:
                    self._move(error.errno)
                    continue
                counters["udp_errors"] += 1
                return
            self.upstream.traffic.bytes_in += len(data)
            return
        self.unanswered = None
        counters["udp_unanswered"] += 1

    # --- from the instance --------------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """Pass on what the instance has answered, or go on to another one."""
        unanswered = self.unanswered
        error = self._answers(self._batch)
        if events & ~IN:
            error = self._trouble() or error
        if error in UNREACHABLE:
            self._move(error)
            if unanswered is not None:
                self.unanswered = unanswered
                self._send(unanswered)

    def _answers(self, most: int) -> int:
        """Pass on what has come, up to so many; returns an error that was met, or 0."""
        sock, upstream, port = self._sock, self.upstream, self.port
        if sock is None or upstream is None:
            return 0
        error, now = 0, self._relay.loop.now
        for taken in range(most):
            try:
                data = sock.recv(LARGEST)
            except BlockingIOError:
                self._batch = max(1, taken)
                break
            except OSError as trouble:
                error = trouble.errno or errno.EIO
                continue
            if self.seen != now or self.unanswered is not None or not self._answered:
                self._was_answered(upstream, now)
            try:
                port.send((data,), self._control, 0, self.key[0])
            except OSError:  # no room, or the client's host has said that it listens no more: nobody to tell
                port.route.counters["udp_errors"] += 1
                continue
            upstream.traffic.bytes_out += len(data)
        else:
            self._batch = min(ANSWERS, self._batch * 2)
        return error

    def _was_answered(self, upstream: Upstream, now: float) -> None:
        self.seen = now
        self.among.move_to_end(self)
        self._answered = True
        self.unanswered = None
        self.refused = ()
        if upstream.failures:
            upstream.answered()
        upstream.traffic.changed()

    def _trouble(self) -> int:
        """What an error event is about; empties the queue of errors, which would be an event for ever."""
        if self._sock is None:
            return 0
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            for _ in range(ERRORS):
                self._sock.recvmsg(0, 0, socket.MSG_ERRQUEUE)
        except OSError:  # it is empty
            pass
        return error

    # --- which instance -----------------------------------------------------------------------------------------------

    def _join(self) -> bool:
        """Talk to an instance that was not found unreachable just now; false if there is none."""
        route = self.port.route
        route.prepare()
        for upstream in route.order(self.source, self._relay.loop.now):
            if upstream not in self.refused:
                return self._connect(upstream)
        return False

    def _forgive(self) -> bool:
        """Nobody else is there: ask those again that could not be reached before."""
        self.refused = ()
        return self._join()

    def _connect(self, upstream: Upstream) -> bool:
        try:
            sock = Socket(upstream.family, DATAGRAM)
            if self._hops:
                limit_hops(sock, self._hops)
        except OSError as shortage:
            self._relay.short(self.port.route, shortage)
            return False
        try:
            hear_unreachable(sock, upstream.family)
            sock.connect(upstream.address)
        except OSError as error:
            sock.close()
            if error.errno in UNREACHABLE:  # the routing table's word
                self._refused(upstream, error.errno)
                return len(self.refused) < TRIES and self._join()
            self._relay.short(self.port.route, error)
            return False
        self._sock, self.upstream = sock, upstream
        self._batch = 1
        self._relay.loop.add(sock.fileno(), IN, self.ready)
        upstream.opened()
        return True

    def _move(self, error: int) -> None:
        """This instance cannot be reached: go on with another one, if there is one that was not tried."""
        upstream = self.upstream
        if upstream is None:
            return
        self._answers(ANSWERS)  # an error is told before what came earlier
        self._leave()
        self._refused(upstream, error)
        if len(self.refused) < TRIES and self._join():
            self.port.route.counters["udp_moved"] += 1

    def _refused(self, upstream: Upstream, error: int) -> None:
        route = self.port.route
        route.counters["udp_refused"] += 1
        self.refused += (upstream,)
        if route.failed(upstream, self._relay.loop.now):
            self._relay.say_ejected(route, upstream, error)

    def _leave(self) -> None:
        if self._sock is not None and self.upstream is not None:
            self._relay.loop.discard(self._sock.detach())
            self._sock = None
            self.upstream.closed()
            self.upstream = None

    def end(self) -> None:
        """Forget the client."""
        self._leave()
        del self.port.sessions[self.key]
        self._relay.roll.remove(self)
