"""One check of a TCP instance: connect, look what became of it a moment later, leave.

Two looks at a socket instead of a task that waits for events: it costs 6 system calls, and whoever runs many checks
begins and ends them in common turns.

It listens for a while because accepting is not serving: docker-proxy accepts before it knows whether anybody listens in
the container, and hangs up when nobody does. A server that hangs up on a silent client sooner than LISTEN would look
the same; none is known to.

It leaves by FIN, not by RST. A reset is cheaper for us, no TIME_WAIT stays behind, but the server's program meets it as
an error: PostgreSQL logs a line for each, Python's and Java's servers a stack trace, a Node.js server without an error
handler ends. What it would save is small: at 125 checks a second, 60 s of TIME_WAIT are 7,500 entries of 250 bytes in
the kernel, and an instance checked every 2 s never meets more than 30 of the 28,000 ports towards it.

An instance that expects the PROXY protocol is told that this is a check, lest it complain of a silent client, and is
listened to from there on: one that speaks first does so now, and shall not be cut off within its words.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from functools import lru_cache
from typing import Final

from ambcore.health import Result, Verdict
from ambcore.model import Address

LOOK = 0.19  # seconds after which a check is looked at: a round trip within a continent, and LISTEN
LISTEN = 0.1  # seconds that an instance must not hang up; docker-proxy does within milliseconds of being refused

STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
HUNG_UP: Final = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})

# Errors of this machine: they say nothing of the instance. A missing route is not among them: whatever the reason, no
# client comes through from here.
LOCAL: Final = frozenset(
    {
        errno.EACCES,
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EAGAIN,
        errno.EINTR,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
    }
)

# struct tcp_info, include/uapi/linux/tcp.h: tcpi_state, and tcpi_rtt in microseconds
TCP_INFO: Final = struct.Struct("=B67xI")
# include/net/tcp_states.h
ESTABLISHED: Final = 1
ASKING: Final = frozenset({2, 3})  # TCP_SYN_SENT, TCP_SYN_RECV


class TcpCheck:
    """A check under way. `began` is when it was; `next_look` when to look again, in the seconds of the caller."""

    __slots__ = ("_listens_from", "_peer", "_sock", "_until", "_words", "began", "next_look")

    def __init__(self, sock: socket.socket, peer: tuple[str, int], timeout: float, now: float, words: bytes) -> None:
        self._sock = sock
        self._peer = peer
        self._until = now + timeout
        self._words = words
        self.began = self._listens_from = now
        self.next_look = now + min(LOOK, timeout)

    def look(self, now: float) -> Result | None:
        """The result, or None while there is none yet. Raises nothing; after a result the socket is closed."""
        state, microseconds = TCP_INFO.unpack(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
        round_trip = microseconds / 1e6
        if state not in ASKING:
            if self._words and state == ESTABLISHED and (failed := self._say(now)):
                return self._end(failed, now)
            heard_enough = self._listens_from + round_trip + LISTEN
            if now >= heard_enough:
                return self._end(self._heard(round_trip), now)
            self.next_look = heard_enough
        elif now >= self._until:
            return self._end(Result(Verdict.SILENT), now)
        else:
            self.next_look = self._until
        return None

    def close(self) -> None:
        """End it without a result; closing twice is fine."""
        if self._words:
            with contextlib.suppress(OSError):
                self._sock.send(self._words)
        self._sock.close()

    def _say(self, now: float) -> Result | None:
        """Say what there is to say; a result if the instance has hung up meanwhile."""
        try:
            self._sock.send(self._words)
        except OSError as error:
            return _judged(error.errno or errno.ECONNRESET)
        self._words = b""
        self._listens_from = now
        return None

    def _heard(self, round_trip: float) -> Result:
        """What came of it: a refusal, or what a connected instance has said; anything but an end is fine."""
        try:
            if not self._sock.recv(4096):
                return Result(Verdict.CLOSED)
        except BlockingIOError:
            pass  # silence: the client speaks first in most protocols
        except OSError as error:
            return _judged(error.errno or errno.ECONNRESET)
        if self._sock.getsockname()[:2] == self._peer:
            return Result(Verdict.REFUSED)  # nobody listens there: by chance we had that very port and met ourselves
        return Result(Verdict.PASSED, round_trip)

    def _end(self, result: Result, now: float) -> Result:
        self._sock.close()
        return result if result.verdict is Verdict.PASSED else result._replace(took=now - self.began)


def knock(address: Address, timeout: float, now: float, words: bytes = b"") -> TcpCheck | Result:
    """Begin a check; a result at once if it cannot be begun.

    `timeout` seconds are for the connection alone, LISTEN comes on top. `words` are said to the instance. The seconds
    of a check that passed are the handshake's round trip as the kernel measured it.
    """
    peer = (address.host, address.port)
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, STREAM)
    except OSError as shortage:
        return _judged(shortage.errno or errno.EMFILE)
    error = sock.connect_ex(peer)
    if error in (0, errno.EINPROGRESS):
        return TcpCheck(sock, peer, timeout, now, words)
    sock.close()
    return _judged(error)


@lru_cache(maxsize=64)
def _judged(error: int) -> Result:
    """The verdict of a system error number."""
    if error in LOCAL:
        return Result(Verdict.LOCAL, error=os.strerror(error))
    if error == errno.ECONNREFUSED:
        return Result(Verdict.REFUSED)
    if error in HUNG_UP:
        return Result(Verdict.CLOSED, error=os.strerror(error))
    if error == errno.ETIMEDOUT:
        return Result(Verdict.SILENT)
    return Result(Verdict.SILENT, error=os.strerror(error))
