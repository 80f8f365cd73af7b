"""simple-amb's life: listen, forward, drain."""

from __future__ import annotations

import logging
import signal
import socket

from ambcore.model import join_host_port
from ambnet.notify import notify, watchdog_interval
from ambnet.relay.limits import calm_collector, raise_file_limit
from ambnet.relay.listener import Listener
from ambnet.relay.loop import Loop
from ambnet.relay.relay import Relay
from ambnet.relay.sockets import open_listeners
from simple_amb.config import Settings
from simple_amb.targets import Targets

log = logging.getLogger("simple-amb")


class Forwarder:
    """One process, one loop, one relay. `exit_code` is what its life came to."""

    def __init__(self, settings: Settings, listeners: list[socket.socket]) -> None:
        self.settings = settings
        self.exit_code = 0
        self.loop = Loop()
        self.relay = Relay(self.loop, settings.limits, raise_file_limit(), self._on_broken)
        route = Targets(self.relay, settings.targets)
        for listener in listeners:
            self.relay.listen(listener, route)

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT and the last connection; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.loop.call_soon_threadsafe(self._stop))
        self._watchdog()
        notify("READY=1", "STATUS=forwarding")
        try:
            self.loop.run()
        finally:
            self.relay.close()
            self.loop.close()
        return self.exit_code

    def _stop(self) -> None:
        """Finish what is open; asked again, leave at once."""
        if not self.relay.listeners:
            log.warning("asked again: leaving at once")
            self.exit_code = 1
            self.loop.stop()
            return
        log.info("stopping: %d connections open", self.relay.connections)
        notify("STOPPING=1")
        self.relay.drain(self.settings.drain, self.loop.stop)

    def _on_broken(self, _listener: Listener, _error: OSError) -> None:
        """Without its port it is of no use: the service manager starts another."""
        self.exit_code = 1
        self.loop.stop()

    def _watchdog(self) -> None:
        interval = watchdog_interval()
        if interval is not None:
            notify("WATCHDOG=1")
            self.loop.call_later(interval, self._watchdog)


def forward(settings: Settings) -> int:
    """The whole life; returns the exit code."""
    host, port = settings.listen
    where = join_host_port(host or "*", port)
    try:
        listeners = open_listeners(host, port)
    except OSError as error:
        log.error("cannot listen on %s: %s", where, error.strerror)  # noqa: TRY400 - one line says it all
        return 1
    calm_collector()
    log.info("forwarding %s to %s", where, ", then ".join(settings.hosts))
    return Forwarder(settings, listeners).run()
