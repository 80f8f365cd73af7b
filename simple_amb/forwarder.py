"""simple-amb's life: listen, forward, drain."""

from __future__ import annotations

import logging
import signal
import socket
from typing import TYPE_CHECKING

from ambcore.model import Protocol, join_host_port
from ambnet.notify import notify, watchdog_interval
from ambnet.relay.access import Access
from ambnet.relay.capped import relay_within
from ambnet.relay.inherited import inherited
from ambnet.relay.limits import calm_collector, raise_file_limit
from ambnet.relay.listener import Listener
from ambnet.relay.loop import Loop
from ambnet.relay.sockets import open_datagrams, open_listeners
from simple_amb.config import Settings
from simple_amb.targets import Targets, by_name
from simple_amb.wiring import Forward, Wiring

if TYPE_CHECKING:
    from simple_amb.turns import Turns

log = logging.getLogger("simple-amb")

OPEN = {Protocol.TCP: open_listeners, Protocol.UDP: open_datagrams}
Served = list[tuple[Forward, list[socket.socket]]]  # each forward with its sockets


class Forwarder:
    """One process, one loop, one relay. `exit_code` is what its life came to."""

    def __init__(self, settings: Settings, served: Served, turns: Turns | None = None) -> None:
        self.settings = settings
        self.turns = turns
        self.exit_code = 0
        self.signalled = self.stopping = False
        self.loop = Loop()
        access = Access(settings.allow, settings.accept_proxy)
        self.relay = relay_within(self.loop, settings.limits, raise_file_limit(), self._on_broken, access)
        for forward, sockets in served:
            self._serve(forward, sockets)

    def _serve(self, forward: Forward, sockets: list[socket.socket]) -> None:
        route = Targets(self.relay, forward.targets, name=f"port {forward}")
        route.send_proxy = self.settings.send_proxy
        for sock in sockets:
            if forward.protocol is Protocol.UDP:
                idle = self.settings.udp_idle.of(str(forward.port))
                self.relay.datagrams.serve(sock, route, idle, self.settings.send_proxy)
            else:
                self.relay.listen(sock, route)
        if forward.protocol is Protocol.UDP:
            route.prepare()  # a datagram does not wait for the look-up of a name, so let that be done when it comes

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT and the last connection; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.loop.call_soon_threadsafe(self._stop))
        if self.turns is not None:
            self.turns.begin(self.loop, self.relay, self._over)
        self._watchdog()
        notify("READY=1", "STATUS=forwarding")
        try:
            self.loop.run()
        finally:
            self.relay.close()
            self.loop.close()
        return self.exit_code

    def _stop(self) -> None:
        """Told by a signal: finish what is open, if that is not under way; by a second one: leave at once."""
        if self.signalled:
            log.warning("asked again: leaving at once")
            self.exit_code = 1
            self.loop.stop()
            return
        self.signalled = True
        if self.stopping:
            return
        self.stopping = True
        log.info("stopping: %d connections open", self.relay.connections)
        notify("STOPPING=1")
        heir = self.turns is not None and self.turns.leave()
        self.relay.drain(self.settings.drain, self.loop.stop, handed_over=heir)

    def _over(self) -> None:
        """Another process serves now: finish what is open."""
        if not self.stopping:
            self.stopping = True
            log.info("another process has taken over; finishing %d connections", self.relay.connections)
            self.relay.drain(self.settings.drain, self.loop.stop, handed_over=True)

    def _on_broken(self, _listener: Listener, _error: OSError) -> None:
        """Without one of its ports it is of no use: the service manager starts another."""
        self.exit_code = 1
        self.loop.stop()

    def _watchdog(self) -> None:
        interval = watchdog_interval()
        if interval is not None:
            notify("WATCHDOG=1")
            self.loop.call_later(interval, self._watchdog)


def forward(settings: Settings, wiring: Wiring) -> int:
    """The whole life; returns the exit code."""
    for warning in wiring.warnings:
        log.warning("%s", warning)
    turns = _turns(settings.hand_over) if settings.hand_over else None
    host = settings.listen.host
    served: Served = []
    for each in map(by_name, wiring.forwards):
        where = join_host_port(host or "*", each.port) + ("/udp" if each.protocol is Protocol.UDP else "")
        try:
            served.append((each, OPEN[each.protocol](host, each.port)))
        except OSError as error:
            log.error("cannot listen on %s: %s", where, error.strerror)  # noqa: TRY400 - one line says it all
            return 1
        log.info("forwarding %s to %s", where, ", then ".join(join_host_port(*target) for target in each.targets))
    if turns is None:
        inherited().leave()
    calm_collector()
    return Forwarder(settings, served, turns).run()


def _turns(path: str) -> Turns:
    from simple_amb.turns import Turns  # noqa: PLC0415 - simple-amb is small where nobody asks for this

    return Turns(path)
