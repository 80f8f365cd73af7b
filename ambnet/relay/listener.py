"""Accepts clients. Whatever accept(2) can say is in one of two named sets, or ends the listener aloud."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ambnet.relay.hops import keep_hops
from ambnet.relay.loop import EXCLUSIVE, IN
from ambnet.relay.sockets import BACKLOG, keep_alive, no_delay

if TYPE_CHECKING:
    from ambnet.relay.relay import Relay
    from ambnet.relay.route import Route

GROW_AFTER = 8  # full batches in a row, then the next is twice as large
BATCH = 32  # clients accepted before others get their turn; with several workers, before they get their share

# This one client failed on its way in; accept(2) lists the network's errors that Linux passes on.
PASSING = frozenset(
    {
        errno.ECONNABORTED,
        errno.EINTR,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
        errno.ETIMEDOUT,
    }
)
# The machine lacks something; clients wait in the backlog until it is there again.
SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Accept = Callable[[], tuple[int, Any]]  # a descriptor and its peer's address


class Accepting(socket.socket):
    """A listening socket that gives accepted clients as bare descriptors.

    `socket.accept` asks the kernel and two enumerations for what we know; that is a tenth of a short connection's time.
    """

    _accept: Accept  # inherited; what `socket.accept` is made of since Python 3.2

    def take(self) -> tuple[int, Any]:
        """Descriptor and address of the next client; raises BlockingIOError when none waits."""
        return self._accept()


class Listener:
    """One listening socket and where its clients go. Takes the socket over.

    `accept` is the one system call that tests replace, to raise what the kernel seldom raises.
    """

    __slots__ = ("_batch", "_full_batches", "accept", "relay", "route", "sock", "watched")

    def __init__(self, relay: Relay, sock: socket.socket, route: Route, accept: Accept | None = None) -> None:
        sock.setblocking(False)
        sock.listen(BACKLOG)  # changes nothing, unless somebody who shares it has shut it down
        keep_alive(sock)  # accepted sockets inherit these: six system calls fewer for each client
        no_delay(sock)
        keep_hops(sock)
        self.relay = relay
        self.route = route
        self.sock = Accepting(fileno=sock.detach())
        self.accept = accept or self.sock.take
        self.watched = False
        self._batch = 1
        self._full_batches = 0

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port, *_ = self.sock.getsockname()
        return host, port

    def resume(self) -> None:
        """Accept from now on."""
        if not self.watched:
            self.watched = True
            self.relay.loop.add(self.sock.fileno(), IN | EXCLUSIVE, self.ready)

    def pause(self) -> None:
        """Leave clients in the backlog."""
        if self.watched:
            self.watched = False
            self.relay.loop.remove(self.sock.fileno())

    def look_again(self) -> None:
        """Take up somebody whose arrival woke another process that has this socket, and has died over it
        (epoll_ctl(2), EPOLLEXCLUSIVE).
        """
        if self.watched:
            self.pause()
            self.resume()

    def close(self) -> None:
        """Stop for good. Closing twice is fine."""
        self.pause()
        self.sock.close()

    def empty(self) -> None:
        """Accept everybody who waits in the backlog, as far as there is room; newcomers cannot prolong it."""
        self._take(BACKLOG)

    def ready(self, _events: int) -> None:
        """Accept a batch: as many as came at once lately.

        To ask until nobody waits is a question too many for each client that comes alone, and dear, as the answer is an
        exception. epoll tells again if somebody is left.
        """
        if not self._take(self._batch):
            self._batch = max(1, self._batch // 2)
            self._full_batches = 0
        elif self._batch < BATCH:
            self._full_batches += 1
            if self._full_batches >= GROW_AFTER:
                self._batch *= 2
                self._full_batches = 0

    def _take(self, most: int) -> bool:
        """Accept up to so many; whether there were."""
        relay = self.relay
        for _ in range(most):
            if relay.full:
                self.route.counters["no_room"] += 1
                relay.await_room()
                return False
            if not self.route.known and relay.parked >= relay.limits.park_max:  # it will be, and soon as a rule
                relay.rest(self)
                return False
            try:
                fd, address = self.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in PASSING:
                    continue
                if error.errno in SHORTAGE:
                    self.route.counters["no_room"] += 1
                    relay.await_resources(error)
                else:
                    relay.listener_broken(self, error)
                return False
            os.set_blocking(fd, False)
            relay.admit(fd, address, self.route)
        return True
