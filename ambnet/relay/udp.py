"""Datagrams: the ports that they come in by, the clients that are known, and the limits to that.

The way of a datagram: `udp_port` takes it in, `udp_session` finds an instance and speaks with it, `udp_roll` says whom
to forget. There is no parking: a datagram without an instance is dropped, as its sender has to expect of any network.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ambcore.model import Protocol
from ambcore.proxy_protocol import encode
from ambnet.relay.hops import UNKNOWN, crowd, hops_told
from ambnet.relay.udp_port import Asked, Key, UdpPort, asked
from ambnet.relay.udp_roll import Roll
from ambnet.relay.udp_session import UdpSession

if TYPE_CHECKING:
    from ambnet.relay.loop import Loop, Timer
    from ambnet.relay.relay import Relay
    from ambnet.relay.route import Route
    from ambnet.relay.upstream import Upstream

log = logging.getLogger("relay")

# What can happen to datagrams, in words fit for a metric's label, and for people.
COUNTERS: Final[Mapping[str, str]] = {
    "udp_sessions": "UDP clients taken on",
    "udp_expired": "UDP clients forgotten, as they were silent",
    "udp_evicted": "UDP clients forgotten for a newcomer, or for TCP",
    "udp_moved": "UDP clients that went on to another instance, as theirs could not be reached",
    "udp_refused": "times that an instance could not be reached",
    "udp_unanswered": "datagrams that no instance could be reached for",
    "udp_went_round": "datagrams dropped, as proxies that lead to each other had passed them on too often",
    "udp_no_instance": "datagrams dropped as there was no instance",
    "udp_denied": "datagrams dropped by --allow",
    "udp_no_room": "datagrams dropped as no client more fits",
    "udp_errors": "datagrams lost for a reason of this machine: no buffer, no file, too long for a link",
}

SWEEP_MOST, SWEEP_LEAST = 1.0, 0.05  # seconds between two looks at silent clients, a tenth of the shortest patience
QUIET: Final = 1.0  # seconds without a datagram after which a drain waits for no more
LATE: Final = 5.0  # seconds that an answer may take when the next question goes elsewhere; a resolver's patience


class Datagrams:
    """The UDP half of a relay; its clients' files are what TCP leaves of `files`."""

    def __init__(self, relay: Relay, files: int) -> None:
        self.loop: Loop = relay.loop
        self.roll: Roll[UdpSession] = Roll()
        self.ports: list[UdpPort] = []
        self._relay = relay
        self._files = files
        self._sweeper: Timer | None = None
        self._draining = False

    def serve(self, sock: socket.socket, route: Route, idle: float, send_proxy: int = 0) -> None:
        """Take over a bound socket and send its datagrams along a route; a client silent for `idle` is forgotten."""
        if send_proxy == 1:
            log.warning("%s: version 1 of the PROXY protocol knows no datagrams; they go without a header", route.name)
        route.counters |= {name: route.counters.get(name, 0) for name in COUNTERS}
        self.ports.append(UdpPort(self, sock, route, idle, send_proxy))
        self.roll.shortest = min(port.idle for port in self.ports)

    def stop(self, route: Route, address: tuple[str, int]) -> None:
        """Close a route's socket on this address, the only way back to its clients: they are forgotten."""
        for port in [port for port in self.ports if port.route is route and port.address == address]:
            port.close()
            self.ports.remove(port)

    def close(self) -> None:
        """Close every socket. Closing twice is fine."""
        while self.ports:
            self.ports.pop().close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    # --- clients come and go ------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many clients may be known now: TCP goes first, with two files for each connection."""
        return min(self._relay.limits.udp_sessions, self._files - 2 * self._relay.connections)

    def make_room(self) -> None:
        """Forget clients until one connection more fits beside them."""
        room = self.room - 2
        while len(self.roll) > room and self._evict(room):
            pass

    def welcome(self, port: UdpPort, key: Key, control: Sequence[Asked]) -> UdpSession | None:
        """A session for a new client; None if its datagram is to be dropped."""
        counters = port.route.counters
        host = key[0][0].removeprefix("::ffff:")
        if not self._relay.access.admits(host):
            counters["udp_denied"] += 1
            return None
        room = self.room
        if self._draining or room <= 0:
            counters["udp_no_room"] += 1
            return None
        while len(self.roll) >= room:
            self._evict(room)
        hops = UNKNOWN
        if len(self.roll) >= crowd(room):
            port.ask_for_hops()
            hops = hops_told(control)
            if hops == 1:
                counters["udp_went_round"] += 1
                return None
        local, reply = asked(*control[0]) if port.tells_address else (port.address[0], None)
        header = b""
        if port.send_proxy == 2:
            header = encode(2, (host.partition("%")[0], key[0][1]), (local, port.address[1]), Protocol.UDP)
        session = UdpSession(port, key, reply, header, max(UNKNOWN, hops - 1))
        port.sessions[key] = session
        self.roll.add(session)
        counters["udp_sessions"] += 1
        if self._sweeper is None:
            self._sweep()
        return session

    def _evict(self, most: int) -> bool:
        victim = self.roll.first_to_go(most)
        if victim is None:
            return False
        victim.port.route.counters["udp_evicted"] += 1
        victim.end()
        return True

    def _sweep(self) -> None:
        """Forget who was silent for too long, as long as anybody is known."""
        for session in self.roll.silent(self.loop.now):
            session.port.route.counters["udp_expired"] += 1
            session.end()
        period = max(SWEEP_LEAST, min(SWEEP_MOST, self.roll.shortest / 10))
        self._sweeper = self.loop.call_later(period, self._sweep) if self.roll else None

    # --- the end ------------------------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nobody has to be waited for."""
        return not self.ports

    def drain(self, done: Callable[[], None], *, handed_over: bool = False) -> None:
        """Take on no new client; once the known ones were silent for a second close, and call `done`.

        `handed_over`: read nothing more at once, another process does, and wait for late answers instead.
        """
        self._draining = True
        if not handed_over:
            self._close_after(QUIET, 0.0, done)
            return
        for port in self.ports:
            port.stop_reading()
        self._close_after(LATE, self.loop.now, done)

    def _close_after(self, silence: float, since: float, done: Callable[[], None]) -> None:
        """Close, and call `done`, when nobody who is known was heard of for so long, at least from `since` on."""
        newest = max([since, *(session.seen for session in self.roll)])
        if self.ports and self.roll and self.loop.now - newest < silence:
            self.loop.call_later(QUIET / 4, lambda: self._close_after(silence, since, done))
            return
        self.close()
        done()

    # --- the log ------------------------------------------------------------------------------------------------------

    def short(self, route: Route, error: OSError) -> None:
        """This machine lacks what a session needs."""
        route.counters["udp_errors"] += 1
        self._relay.say_seldom("udp", f"{route.name}: {os.strerror(error.errno or 0)}; datagrams are lost")

    def say_ejected(self, route: Route, upstream: Upstream, error: int) -> None:
        """Log that an instance is asked last for a while."""
        self._relay.say_ejected(route, upstream, error)
