"""The relay: its listeners, the clients that wait, the sessions that run, and the rounds made over them.

This is its TCP; `udp` has its other half.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from ambcore.proxy_protocol import End, encode
from ambnet.relay.access import ANYBODY, Access
from ambnet.relay.dial import Dial
from ambnet.relay.greeting import Greeting
from ambnet.relay.hops import crowd
from ambnet.relay.limits import Limits, client_files, connection_cap
from ambnet.relay.listener import Accept, Listener
from ambnet.relay.loop import Loop, Timer
from ambnet.relay.pipes import PipePool
from ambnet.relay.route import Route
from ambnet.relay.session import Session
from ambnet.relay.sockets import Socket, reset_on_close
from ambnet.relay.udp import Datagrams
from ambnet.relay.upstream import Endpoint, Key, Upstream

log = logging.getLogger("relay")

TICK = 0.05  # seconds between two looks at clients that wait; they have timeouts of seconds
SWEEP_MOST, SWEEP_LEAST = 5.0, 0.05  # seconds between two looks at all sessions
# Parts of a timeout between two: one notes that nothing moves, one ends it, and on a busy machine each is late.
PER_IDLE, PER_HALF_OPEN = 20, 10
PAUSE = 0.1  # seconds without accepting when the machine lacks something, as HAProxy does
SELDOM = 10.0  # seconds between two log lines about the same shortage


class Relay:
    """Accepts, connects, carries. Runs in its loop's thread.

    `files` is the limit of open files; the cap on connections follows from it. `on_broken` is told of a listener that
    can accept no more, whose owner has to replace it or to end the process.
    """

    def __init__(
        self,
        loop: Loop,
        limits: Limits,
        files: int,
        on_broken: Callable[[Listener, OSError], None],
        access: Access = ANYBODY,
    ) -> None:
        self.loop = loop
        self.limits = limits
        self.access = access
        self._plain = access.anybody  # clients are taken on without a question
        self.cap = connection_cap(limits.max_connections, files)
        self.crowd = crowd(self.cap)
        self.pipes = PipePool()
        self.listeners: list[Listener] = []
        self.sessions: set[Session] = set()
        self.dials: dict[Dial | Greeting, None] = {}  # that wait, in the order in which they came
        self.parked = 0
        self.datagrams = Datagrams(self, client_files(files))
        self._on_broken = on_broken
        self._on_empty: Callable[[], None] | None = None
        self._waiting_for_room = False
        self._tick: Timer | None = None
        self._said: dict[str, float] = {}
        periods = (limits.idle_timeout / PER_IDLE, limits.half_open_timeout / PER_HALF_OPEN)
        self._sweep_period = max(SWEEP_LEAST, min([SWEEP_MOST, *filter(None, periods)]))
        loop.call_later(self._sweep_period, self._sweep)

    # --- clients come -------------------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket, route: Route, accept: Accept | None = None) -> None:
        """Take over a listening socket and send its clients along a route."""
        listener = Listener(self, sock, route, accept)
        self.listeners.append(listener)
        listener.resume()

    def stop_listening(self, route: Route, address: tuple[str, int]) -> None:
        """Close a route's listener on this address; clients that wait in its backlog are taken on first.

        A socket for datagrams takes its clients along: there is no other way back to them.
        """
        self.datagrams.stop(route, address)
        for listener in [item for item in self.listeners if item.route is route and item.address == address]:
            listener.empty()
            listener.close()
            self.listeners.remove(listener)

    @property
    def full(self) -> bool:
        """Whether no more connections fit."""
        return len(self.sessions) + len(self.dials) >= self.cap

    @property
    def crowded(self) -> bool:
        """Whether there are so many that proxies may be leading to each other."""
        return len(self.sessions) + len(self.dials) >= self.crowd

    @property
    def connections(self) -> int:
        """How many clients there are, waiting ones included."""
        return len(self.sessions) + len(self.dials)

    def admit(self, client: int, address: Any, route: Route) -> None:
        """Take on an accepted client: a descriptor that does not block, and its address as accept(2) gives it."""
        route.counters["accepted"] += 1
        if self.datagrams.roll:
            self.datagrams.make_room()
        source = address[0].removeprefix("::ffff:")
        if self._plain and not route.send_proxy:
            Dial(self, route, client, source).start()
        elif self.access.expects_header(source):
            Greeting(self, route, client, (source, address[1])).start()
        else:
            self._introduce(route, client, (source, address[1]), None)

    def greeted(self, greeting: Greeting, client: int, source: End, destination: End | None) -> None:
        """A client has said in a header who it stands for, and whom that one asked for."""
        self.dials.pop(greeting, None)
        self._introduce(greeting.route, client, source, destination)

    def _introduce(self, route: Route, client: int, source: End, destination: End | None) -> None:
        """Take on a client of whom it matters who it is."""
        if self.access.admits(source[0]):
            preface = _preface(route.send_proxy, client, source, destination) if route.send_proxy else b""
            self._take_on(route, client, source[0], preface)
            return
        route.counters["not_allowed"] += 1
        self.say_seldom("allow", f"{route.name}: a client at {source[0]} is refused, it is outside --allow")
        self._refuse(client)

    def _take_on(self, route: Route, client: int, source: str, preface: bytes) -> None:
        """Find an instance for a client that may be served."""
        Dial(self, route, client, source, preface).start()

    def _refuse(self, client: int) -> None:
        """Close a client with RST."""
        reset_on_close(sock := Socket(fileno=client))
        self.loop.discard(sock.detach())
        self._one_less()

    def await_room(self) -> None:
        """Stop accepting until a connection ends: clients wait in the backlog, none is closed again."""
        self._waiting_for_room = True
        self.say_seldom("full", f"{self.cap} connections, no more fit; clients wait in the backlog")
        for listener in self.listeners:
            listener.pause()

    def await_resources(self, error: OSError) -> None:
        """Stop accepting for a moment: the machine lacks files or memory."""
        self.say_seldom("accept", f"accept: {error.strerror}; pausing {PAUSE:g} s at a time")
        for listener in self.listeners:
            listener.pause()
        self.loop.call_later(PAUSE, self._accept_again)

    def rest(self, listener: Listener) -> None:
        """Stop accepting for a moment at one port: who comes shall wait in its backlog rather than be reset."""
        listener.pause()
        self.loop.call_later(PAUSE, lambda: self._go_on(listener))

    def _go_on(self, listener: Listener) -> None:
        if self.full:
            self._waiting_for_room = True
        elif listener in self.listeners:
            listener.resume()

    def listener_broken(self, listener: Listener, error: OSError) -> None:
        """A listener that accepts no more must never go unnoticed."""
        log.error("%s: accept: %s; this listener is broken", listener.route.name, error.strerror)
        listener.close()
        self.listeners.remove(listener)
        self._on_broken(listener, error)

    def _accept_again(self) -> None:
        self._waiting_for_room = self.full
        if not self._waiting_for_room:
            for listener in self.listeners:
                listener.resume()

    # --- dials and sessions report ------------------------------------------------------------------------------------

    def dial_waits(self, dial: Dial | Greeting) -> None:
        """A dial cannot be done at once: look at it from time to time."""
        self.dials[dial] = None
        if self._tick is None:
            self._tick = self.loop.call_later(TICK, self._look_at_dials)

    def dial_ended(self, dial: Dial | Greeting) -> None:
        """A dial is over without a session."""
        self.dials.pop(dial, None)
        self._one_less()

    def connected(self, dial: Dial, upstream: Upstream, server: Socket) -> None:
        """An instance answered: carry bytes from now on."""
        self.dials.pop(dial, None)
        dial.route.counters["connected"] += 1
        session = Session(self, dial.route, upstream, dial.client, server)
        self.sessions.add(session)
        session.client.start(dial.client_watched)
        session.server.start(dial.server_watched)
        if dial.preface:
            session.client.say_first(dial.preface)

    def session_ended(self, session: Session) -> None:
        """A session is over."""
        self.sessions.discard(session)
        self._one_less()

    def _one_less(self) -> None:
        if self._waiting_for_room:
            self._accept_again()
        if self._on_empty is not None:
            self._end_if_empty()

    def _end_if_empty(self) -> None:
        """Call whoever waits for the last connection and the last datagram."""
        if self._on_empty is not None and not self.connections and self.datagrams.quiet:
            done, self._on_empty = self._on_empty, None
            done()

    # --- what others decide -------------------------------------------------------------------------------------------

    def apply(self, route: Route, endpoints: Iterable[Endpoint]) -> None:
        """Make these a route's instances: waiting clients are released in order, removed instances' treated as told."""
        self._after_change(route, route.replace(endpoints, self.loop.now))

    def change(self, route: Route, put: Iterable[Endpoint], removed: Iterable[Key]) -> None:
        """Add or alter some of a route's instances and remove others, as `apply` does."""
        self._after_change(route, route.change(put, removed, self.loop.now))

    def _after_change(self, route: Route, removed: list[Upstream]) -> None:
        if removed and route.on_removal is not None:
            if route.on_removal:
                self.loop.call_later(route.on_removal, lambda: self._cut(route, removed))
            else:
                self._cut(route, removed)
        self.reconsider(route)

    def reconsider(self, route: Route) -> None:
        """Let a route's waiting clients look at its instances again."""
        for dial in [dial for dial in self.dials if dial.route is route]:
            dial.reconsider()

    def drain(self, seconds: float, done: Callable[[], None], *, handed_over: bool = False) -> None:
        """Accept nothing more; call `done` once the last connection has ended, or was reset after `seconds`.

        Clients that wait in a backlog are taken on first: their kernels told them that they are connected. Datagrams of
        known clients are carried on until none has come for a second; if another process reads them from now on
        (`handed_over`), answers to those that were read here.
        """
        for listener in list(self.listeners):
            listener.pause()  # whoever comes from now on wakes another process that has this socket
            listener.empty()
            listener.close()
        self.listeners.clear()
        self._on_empty = done
        self.loop.call_later(seconds, self._end_drain)
        self.datagrams.drain(self._end_if_empty, handed_over=handed_over)

    def _end_drain(self) -> None:
        for route in [left.route for left in self.dials] + [left.route for left in self.sessions]:
            route.counters["drain_closed"] += 1
        self.reset_all()
        self.datagrams.close()
        self._end_if_empty()

    def reset_all(self) -> None:
        """End every connection now."""
        for dial in list(self.dials):
            dial.give_up()
        for session in list(self.sessions):
            session.reset()

    def close(self) -> None:
        """End everything that is the relay's own. Closing twice is fine."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        self.reset_all()
        self.datagrams.close()
        self.pipes.close()

    def _cut(self, route: Route, removed: list[Upstream]) -> None:
        """End the sessions of removed upstreams, those excepted that came back meanwhile."""
        grace = route.on_removal or 0.0
        gone = {up for up in removed if up.left is not None and self.loop.now - up.left >= grace}
        for session in [session for session in self.sessions if session.upstream in gone]:
            route.counters["removed_closed"] += 1
            session.reset()

    # --- rounds -------------------------------------------------------------------------------------------------------

    def _look_at_dials(self) -> None:
        self._tick = None
        for dial in list(self.dials):
            dial.tick(self.loop.now)
        if self.dials and self._tick is None:
            self._tick = self.loop.call_later(TICK, self._look_at_dials)

    def _sweep(self) -> None:
        for session in list(self.sessions):
            session.sweep(self.loop.now)
        for listener in self.listeners:
            listener.look_again()
        self.loop.call_later(self._sweep_period, self._sweep)

    # --- the log ------------------------------------------------------------------------------------------------------

    def say_seldom(self, subject: str, text: str) -> None:
        """Log a warning at most once in ten seconds."""
        if self.loop.now - self._said.get(subject, -SELDOM) >= SELDOM:
            self._said[subject] = self.loop.now
            log.warning("%s", text)

    def say_ejected(self, route: Route, upstream: Upstream, error: int) -> None:
        """Log that an instance is asked last for a while."""
        rest = upstream.ejected_until - self.loop.now
        log.warning("%s: %s ejected for %.0f s: %s", route.name, upstream.id, rest, os.strerror(error))


def _preface(version: int, client: int, source: End, destination: End | None) -> bytes:
    """What an instance is told of a client: the header's own words if there was one, else the connection's ends."""
    if destination is None:
        sock = Socket(fileno=client)
        destination = sock.getsockname()[:2]
        sock.detach()
    return encode(version, _unscoped(source), _unscoped(destination))


def _unscoped(end: End) -> End:
    return end[0].partition("%")[0], end[1]
