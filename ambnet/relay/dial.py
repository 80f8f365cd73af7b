"""A client that waits for its instance: parked, or while instances are asked one after another.

Nothing is read from the client meanwhile: what it sends stays in the kernel, so that until an instance has answered
another can be asked and the client sees nothing of it.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ambnet.relay.hops import UNKNOWN, hops_left, limit_hops
from ambnet.relay.loop import OUT
from ambnet.relay.sockets import STREAM, Socket, no_delay, reset_on_close

if TYPE_CHECKING:
    from ambnet.relay.relay import Relay
    from ambnet.relay.route import Route
    from ambnet.relay.upstream import Upstream

LEAST_PATIENCE = 1.0  # seconds for one instance however many there are: a lost SYN is sent again after one

# Connect errors of this machine: they say nothing of the instance.
LOCAL = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EAFNOSUPPORT,
        errno.EPERM,
    }
)


class Phase(enum.Enum):
    """What a client waits for."""

    GREETING = "greeting"  # its own PROXY header, before there is a dial
    PARKED = "parked"  # an instance that takes new connections
    CONNECTING = "connecting"  # an answer
    RESTING = "resting"  # the next round


class Dial:
    """Finds an instance for one client, then hands both sockets to a session.

    `until` ends the present phase; `client_watched` and `server_watched` say which sockets epoll knows already.
    `preface` is what the instance is told before the client's first byte, `hops` are how often the client may be passed
    on, where that is known.
    """

    __slots__ = (
        "_asked",
        "_candidates",
        "_parked_until",
        "_started",
        "client",
        "client_watched",
        "hops",
        "phase",
        "preface",
        "relay",
        "route",
        "server",
        "server_watched",
        "source",
        "until",
        "upstream",
    )

    def __init__(self, relay: Relay, route: Route, client: int, source: str, preface: bytes = b"") -> None:
        self.relay = relay
        self.route = route
        self.client = client
        self.source = source
        self.preface = preface
        self.hops = UNKNOWN
        self.phase: Phase | None = None
        self.until = 0.0
        self.upstream: Upstream | None = None
        self.server: Socket | None = None
        self._candidates: Iterator[Upstream] = iter(())
        self._asked: list[Upstream] = []
        self._started = 0.0
        self._parked_until = 0.0
        self.client_watched = False
        self.server_watched = False

    def start(self) -> None:
        """Ask, or wait for somebody to ask."""
        if self.relay.crowded and (hops := hops_left(self.client)):
            self.hops = hops - 1
            if not self.hops:
                self._went_round()
                return
        if self.route.prepare() and self.route.takers:
            self._begin_round()
        else:
            self._park()

    def reconsider(self) -> None:
        """The route's instances have changed."""
        if self.phase is not Phase.CONNECTING:
            if self.route.takers:
                self._begin_round()
            return
        asked = frozenset(self._asked)
        self._candidates = (upstream for upstream in self._order() if upstream not in asked)
        if self.upstream is not None and self.upstream.left is not None:
            self._hang_up()
            self._ask_next()

    def tick(self, now: float) -> None:
        """Act if the present phase has lasted long enough."""
        if now < self.until:
            self._watch_client()
            return
        if self.phase is Phase.PARKED:
            self.route.counters["park_expired"] += 1
            self.give_up()
        elif self.phase is Phase.RESTING:
            self._begin_round()
        else:
            self._failed(errno.ETIMEDOUT)

    def give_up(self) -> None:
        """Close the client with RST."""
        self._hang_up()
        self._leave_phase()
        client = Socket(fileno=self.client)
        reset_on_close(client)
        self.relay.loop.discard(client.detach())
        self.relay.dial_ended(self)

    def _went_round(self) -> None:
        """The client was passed on from proxy to proxy until its hops were used up."""
        self.route.counters["went_round"] += 1
        self.relay.say_seldom("round", f"{self.route.name}: a connection went round: its instances lead back to here")
        self.give_up()

    def _order(self) -> Iterator[Upstream]:
        return self.route.order(self.source, self.relay.loop.now)

    def _begin_round(self) -> None:
        self._leave_phase()
        self._started = self._started or self.relay.loop.now
        self._asked = []
        self._candidates = self._order()
        self._ask_next()

    def _ask_next(self) -> None:
        """Try candidates until one answers or has to be waited for."""
        for upstream in self._candidates:
            self._asked.append(upstream)
            self.upstream = upstream
            try:
                server = Socket(upstream.family, STREAM)
            except OSError as shortage:
                self._blame(upstream, shortage.errno or errno.EMFILE)
                continue
            no_delay(server)
            if self.hops:
                limit_hops(server, self.hops)
            error = server.connect_ex(upstream.address)
            if error == errno.EINPROGRESS:
                # An instance on this host has answered before connect(2) returns, which says so only when asked again:
                # a third of the work for such a connection is saved, and elsewhere half a microsecond is lost.
                error = server.connect_ex(upstream.address)
            if not error:
                self._connected(upstream, server)
                return
            if error == errno.EALREADY:
                self._await_answer(upstream, server)
                return
            server.close()
            self._blame(upstream, error)
        self._nobody()

    def _await_answer(self, upstream: Upstream, server: Socket) -> None:
        """Wait for the instance as long as it may take: its share of what is left for all, at most the timeout."""
        limits, now = self.relay.limits, self.relay.loop.now
        left = self._started + limits.connect_budget - now
        others = max(0, len(self.route.takers) - len(self._asked))
        share = min(limits.connect_timeout, max(LEAST_PATIENCE, left / (1 + others)))
        self.until = now + min(share, max(0.0, left))
        self._enter(Phase.CONNECTING)
        self.server = server
        self.server_watched = True
        self.relay.loop.add(server.fileno(), OUT, partial(self._answered, upstream, server))

    def _answered(self, upstream: Upstream, server: Socket, events: int) -> None:
        error = 0 if events == OUT else server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._failed(error)
        else:
            self._connected(upstream, server)

    def _failed(self, error: int) -> None:
        """The instance waited for did not answer: ask the next, if there is time left."""
        self._hang_up()
        if self.upstream is not None:
            self._blame(self.upstream, error)
        if self.relay.loop.now - self._started < self.relay.limits.connect_budget:
            self._ask_next()
        else:
            self._nobody()

    def _blame(self, upstream: Upstream, error: int) -> None:
        if error in LOCAL:
            self.route.counters["local_errors"] += 1
            self.relay.say_seldom("connect", f"cannot connect: {os.strerror(error)}; clients are kept waiting")
        elif self.route.failed(upstream, self.relay.loop.now):
            self.relay.say_ejected(self.route, upstream, error)

    def _connected(self, upstream: Upstream, server: Socket) -> None:
        self._leave_phase()
        if upstream.failures:
            upstream.answered()
        self.relay.connected(self, upstream, server)

    def _nobody(self) -> None:
        """Nobody answered in this round."""
        limits, now = self.relay.limits, self.relay.loop.now
        self.upstream = None
        if not self.route.takers:
            self._park()
        elif now - self._started >= limits.retry:
            self.route.counters["unanswered"] += 1
            self.give_up()
        else:
            self.until = now + limits.rest
            self._enter(Phase.RESTING)

    def _park(self) -> None:
        limits, now = self.relay.limits, self.relay.loop.now
        if not self._parked_until:
            self._parked_until = now + limits.park
            self.route.counters["parked"] += 1
        self._started = 0.0
        if self.relay.parked >= limits.park_max:
            self.route.counters["park_refused"] += 1
            self.give_up()
            return
        self.until = self._parked_until
        self._enter(Phase.PARKED)

    def _enter(self, phase: Phase) -> None:
        self._leave_phase()
        self.phase = phase
        self.relay.parked += phase is Phase.PARKED
        self.relay.dial_waits(self)

    def _watch_client(self) -> None:
        """Learn if the client is reset. Not before the first tick: most instances answer sooner."""
        if not self.client_watched:
            self.client_watched = True
            self.relay.loop.add(self.client, 0, self._client_gone)

    def _leave_phase(self) -> None:
        if self.phase is not None:  # most clients never wait
            self.relay.parked -= self.phase is Phase.PARKED
            self.phase = None

    def _hang_up(self) -> None:
        if self.server is not None:
            reset_on_close(self.server)  # it may have answered just now
            self.relay.loop.discard(self.server.detach())
            self.server = None
            self.server_watched = False

    def _client_gone(self, _events: int) -> None:
        """The client was reset: nobody waits for an answer."""
        self.route.counters["client_gone"] += 1
        self.give_up()
