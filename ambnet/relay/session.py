"""A connected client: two sockets, and the bytes between them.

Each direction is a `Side` that reads from its own socket and writes to its peer's. It reads only while nothing read
before waits to be written, so a direction never holds more than one buffer: a slow reader slows its writer down.
Bytes are copied through our memory; a direction in which full buffers keep coming is spliced instead. Both know a
socket by its descriptor: read(2) and write(2) on a number cost Python a third less than a socket object's methods.
The end of one direction (FIN) is passed on and the other goes on; a reset of either socket resets the other.
"""

from __future__ import annotations

import contextlib
import os
import socket
from os import read, write
from typing import TYPE_CHECKING, Final

from ambnet.relay.loop import IN, OUT, OVER
from ambnet.relay.pipes import MOVE, SIZE, Pipe
from ambnet.relay.sockets import Socket, keep_alive, reset_on_close

if TYPE_CHECKING:
    from ambnet.relay.relay import Relay
    from ambnet.relay.route import Route
    from ambnet.relay.upstream import Upstream

BUFFER_SIZE: Final = 64 * 1024
READABLE: Final = (IN, IN | OVER)  # what epoll says of bytes or a FIN, and of the FIN that comes after ours

# Shorter pieces are written once everybody who had something was read: the receivers then wake up to more work at once,
# which costs the machine a thirtieth less a request. A long piece is written while it is warm in the cache.
GATHERED: Final = 4 * 1024

SPLICE_AFTER: Final = 4  # full buffers in a row: a transfer of 256 KiB pays for taking a pipe
COPY_AFTER: Final = 16  # small splices in a row: the bulk is over
SMALL: Final = 16 * 1024  # below this a copy costs less than the second system call that a splice needs


class Side:
    """One socket of a session and the direction that begins there."""

    __slots__ = (
        "_put_off",
        "_sock",
        "carried",
        "ended",
        "fd",
        "interest",
        "peer",
        "pipe",
        "quiet",
        "run",
        "session",
        "waiting",
        "watched",
    )

    peer: Side

    def __init__(self, session: Session, fd: int, sock: Socket | None) -> None:
        self.session = session
        self.fd = fd
        self._sock = sock
        self._put_off = session.relay.loop.put_off
        self.interest = IN
        self.carried = 0  # bytes taken from this socket and not yet accounted for
        self.quiet = False  # nothing came since the last sweep
        self.ended = False  # its FIN has come and was passed on
        self.run = 0  # full buffers (copying) or small pieces (splicing) in a row
        self.waiting: bytes | None = None  # read and not yet written
        self.pipe: Pipe | None = None
        self.watched = True

    @property
    def sock(self) -> Socket:
        """The descriptor as a socket, for what is more than reading and writing."""
        if self._sock is None:
            self._sock = Socket(fileno=self.fd)
        return self._sock

    def discard(self) -> None:
        """Close the socket, after this batch of events."""
        if self._sock is not None:
            self._sock.detach()
        self.session.relay.loop.discard(self.fd)

    def start(self, watched: bool) -> None:
        """Begin to read; `watched` says that epoll knows the socket already."""
        loop = self.session.relay.loop
        if watched:
            loop.hand_over(self.fd, IN, self.ready)
        else:
            loop.add(self.fd, IN, self.ready)

    def say_first(self, preface: bytes) -> None:
        """Write words of our own in front of what will come from here."""
        self.waiting = preface
        self.finish()

    def ready(self, events: int) -> None:
        """Handle what epoll says of this socket: nearly always that something has come."""
        if events not in READABLE or self.pipe is not None:
            self._ready_otherwise(events)
            return
        try:
            piece = read(self.fd, BUFFER_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.session.reset()
            return
        if not piece:
            self._end()
            return
        self.waiting = piece
        self.quiet = False
        self.carried += len(piece)
        if len(piece) < GATHERED:
            self._put_off(self)
        else:
            self.finish()

    def _ready_otherwise(self, events: int) -> None:
        if events & OUT:
            self.peer.flush()
            if self.session.closed:
                return
        if events & IN:
            if self.pipe is None:
                self.ready(IN)
            else:
                self._splice(self.pipe)
        elif events & ~OUT:
            self._troubled()

    def finish(self) -> None:
        """Write what was read, unless the session has ended meanwhile."""
        piece = self.waiting
        if piece is None:
            return
        count = len(piece)
        try:
            sent = write(self.peer.fd, piece)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._rejected()
            return
        if sent < count:
            self.waiting = piece[sent:]
            self._pause()
        else:
            self.waiting = None
        if count == BUFFER_SIZE:
            self._full()
        else:
            self.run = 0

    def flush(self) -> None:
        """Write what waits, now that the peer takes more, and read on once nothing does."""
        try:
            if self.waiting is not None:
                sent = write(self.peer.fd, self.waiting)
                self.waiting = self.waiting[sent:] or None
            elif self.pipe is not None and self.pipe.held:
                self.pipe.held -= os.splice(self.pipe.source, self.peer.fd, self.pipe.held, flags=MOVE)
        except BlockingIOError:
            return
        except OSError:
            self._rejected()
            return
        self.quiet = False
        if self.idle:
            self.peer.watch(self.peer.interest & ~OUT)
            self.watch(self.interest | IN)

    @property
    def idle(self) -> bool:
        """Whether everything read has been written."""
        return self.waiting is None and (self.pipe is None or not self.pipe.held)

    def watch(self, interest: int) -> None:
        """Ask epoll for these events from now on."""
        if interest == self.interest:
            return
        self.interest = interest
        if self.watched:
            self.session.relay.loop.modify(self.fd, interest)
        else:
            self.watched = True
            self.session.relay.loop.add(self.fd, interest, self.ready)

    def return_pipe(self) -> None:
        """Go back to copying."""
        if self.pipe is not None:
            self.session.relay.pipes.give_back(self.pipe)
            self.pipe = None
            self.run = 0

    def _splice(self, pipe: Pipe) -> None:
        try:
            count = os.splice(self.fd, pipe.sink, SIZE, flags=MOVE)
        except BlockingIOError:
            count = 0
        except OSError:
            self.session.reset()
            return
        if not count:  # a FIN, or an urgent mark: splice(2) stops in front of one for ever, read(2) goes past it
            self.return_pipe()
            self.ready(IN)
            return
        self.quiet = False
        self.carried += count
        pipe.held = count
        try:
            pipe.held -= os.splice(pipe.source, self.peer.fd, count, flags=MOVE)
        except BlockingIOError:
            pass
        except OSError:
            self._rejected()
            return
        if pipe.held:
            self._pause()
        elif count >= SMALL:
            self.run = 0
        else:
            self.run += 1
            if self.run >= COPY_AFTER:
                self.return_pipe()

    def _full(self) -> None:
        self.run += 1
        if self.run >= SPLICE_AFTER:
            self.run = 0
            self.pipe = self.session.relay.pipes.take()

    def _pause(self) -> None:
        self.watch(self.interest & ~IN)
        self.peer.watch(self.peer.interest | OUT)

    def _end(self) -> None:
        """Pass on the FIN that came. Nothing waits before it, since reading stops while something does."""
        self.ended = True
        self.quiet = False
        if self.peer.ended:
            self.session.close()
            return
        try:
            self.peer.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the peer was reset meanwhile
            self._rejected()
            return
        self.watch(self.interest & ~IN)

    def _rejected(self) -> None:
        """The peer was reset and takes no more. What it said before that is passed on, as far as it can be at once.

        A server that answers before it has read everything and closes resets the connection (RFC 9112, section 9.6);
        without a relay between, the client would find the answer in front of the reset.
        """
        peer = self.peer
        with contextlib.suppress(OSError):
            while peer.pipe is None or not peer.pipe.held:
                piece = peer.waiting or read(peer.fd, BUFFER_SIZE)
                if peer.waiting is None:
                    peer.carried += len(piece)
                peer.waiting = None
                if not piece or write(self.fd, piece) < len(piece):
                    break
        self.session.reset()

    def _troubled(self) -> None:
        """Something is wrong with a socket that is not being read."""
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.session.reset()
            return
        if self.interest & IN:  # the peer took what waited in this very batch; epoll says it again, with what has come
            return
        # Both FINs have passed, ours and the socket's, and what came before its own still waits here for the peer to
        # take it. epoll cannot be asked not to report that, so it must not watch.
        self.session.relay.loop.remove(self.fd)
        self.watched = False


class Session:
    """A client and the instance that answered it."""

    __slots__ = ("client", "closed", "relay", "route", "server", "since", "upstream")

    def __init__(self, relay: Relay, route: Route, upstream: Upstream, client: int, server: Socket) -> None:
        self.relay = relay
        self.route = route
        self.upstream = upstream
        self.closed = False
        self.since = 0.0  # when a sweep last saw that bytes had moved; 0 before the first one
        self.client = Side(self, client, None)
        self.server = Side(self, server.fileno(), server)
        self.client.peer = self.server
        self.server.peer = self.client
        upstream.opened()

    def close(self) -> None:
        """End in order: both directions have ended, or what is left may be sent by the kernel."""
        self.closed = True
        self.account()
        self.upstream.closed()
        self.relay.session_ended(self)
        for side in (self.client, self.server):
            side.return_pipe()
            side.waiting = None
            side.discard()
            del side.peer  # no circle is left for the garbage collector to find
        del self.client, self.server

    def reset(self) -> None:
        """End both sides with RST, what waits is lost: what one side suffered, or one of our timeouts."""
        self.route.counters["reset"] += 1
        reset_on_close(self.client.sock)
        reset_on_close(self.server.sock)
        self.close()

    def account(self) -> None:
        """Write what was carried to the instance's numbers."""
        client, server = self.client, self.server
        if client.carried or server.carried:
            traffic = self.upstream.traffic
            traffic.bytes_in += client.carried
            traffic.bytes_out += server.carried
            traffic.changed()
            client.carried = server.carried = 0

    def sweep(self, now: float) -> None:
        """Look after a connection now and then: note whether bytes moved, end it when none did for too long."""
        client, server = self.client, self.server
        if not (client.quiet and server.quiet):
            if not self.since:
                keep_alive(server.sock)
            client.quiet = server.quiet = True
            self.since = now
            return
        for side in (client, server):
            if side.pipe is not None and not side.pipe.held:
                side.return_pipe()
        limits = self.relay.limits
        half_open = client.ended or server.ended
        limit = limits.half_open_timeout if half_open else limits.idle_timeout
        if limit and now - self.since >= limit:
            self.route.counters["half_open_closed" if half_open else "idle_closed"] += 1
            self.reset()
