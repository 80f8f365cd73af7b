"""The process that carries bytes for dynproxy: a relay under orders. See `protocol` for what it is told and answers."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from ambnet.log import LEVELS, OneLine
from ambnet.relay.access import Access
from ambnet.relay.accounts import Accounts
from ambnet.relay.balanced import balanced
from ambnet.relay.capped import relay_within
from ambnet.relay.control import Control
from ambnet.relay.dial import Phase
from ambnet.relay.doors import Doors
from ambnet.relay.limits import calm_collector, raise_file_limit
from ambnet.relay.listener import Listener
from ambnet.relay.loop import Loop
from ambnet.relay.protocol import (
    Applied,
    Changes,
    Close,
    Configure,
    Drain,
    Endpoints,
    Event,
    Message,
    Ready,
    RouteSetup,
    Stats,
)
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route

STATS_PERIOD = 1.0  # seconds

log = logging.getLogger("worker")


class ToParent(logging.Handler):
    """Log lines travel to the parent, who has the one log."""

    def __init__(self, control: Control) -> None:
        super().__init__()
        self._control = control
        self.setFormatter(OneLine("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        self._control.send(Event(record.levelname.lower(), self.format(record)))


class Worker:
    """One relay, configured once by its parent. `exit_code` is what its life came to."""

    def __init__(self, control: socket.socket, doors: socket.socket | None = None) -> None:
        self.exit_code = 0
        self.loop = Loop()
        self.control = Control(self.loop, control, self._obey, self._orphaned)
        self.routes: dict[str, Route] = {}
        self.accounts: dict[str, Accounts] = {}
        self.relay: Relay | None = None
        self._doors = doors
        self.orphan_drain = 0.0
        self.draining = False
        logging.basicConfig(level=logging.INFO, handlers=[ToParent(self.control)], force=True)

    def run(self) -> int:
        """Serve until told to end, or until the parent has gone; returns the exit code."""
        try:
            self.loop.run()
        except Exception:  # told to the parent, then the process ends: no fault goes unseen
            log.exception("the relay failed")
            self.exit_code = 1
        if self.relay is not None:
            self.relay.close()
        self.loop.close()
        return self.exit_code

    def _obey(self, message: Message) -> None:
        match message:
            case Configure():
                self._configure(message)
            case Endpoints():
                self._apply(message)
            case Changes():
                self._change(message)
            case RouteSetup():
                self._open(message)
            case Close():
                self._close(message)
            case Drain():
                self._drain(message.seconds, handed_over=message.handed_over)
            case _:
                raise ValueError(f"not for a worker: {message!r}")

    def _configure(self, setup: Configure) -> None:
        logging.getLogger().setLevel(LEVELS[setup.log_level])
        self.orphan_drain = setup.orphan_drain
        access = Access(*(map(ipaddress.ip_network, networks) for networks in (setup.allow, setup.accept_proxy)))
        self.relay = relay_within(self.loop, setup.limits, raise_file_limit(), self._on_broken, access)
        for service in setup.services:
            self._open(service)
        if self._doors is not None:
            Doors(self.loop, self._doors, self._obey)
        self.control.send(Ready())
        self._report()

    def _open(self, setup: RouteSetup) -> None:
        """Serve a route's listeners: a new one's, or more of one that is known."""
        if self.relay is None or self.draining:
            for fd in setup.listeners:
                os.close(fd)
            return
        if setup.service not in self.routes:
            route = Route(setup.service, balanced(setup.policy), setup.on_removal, setup.send_proxy)
            self.routes[setup.service] = route
            self.accounts[setup.service] = Accounts(route)
        route = self.routes[setup.service]
        for fd in setup.listeners:
            if setup.is_udp:
                self.relay.datagrams.serve(socket.socket(fileno=fd), route, setup.udp_idle, setup.send_proxy)
            else:
                self.relay.listen(socket.socket(fileno=fd), route)

    def _close(self, order: Close) -> None:
        if self.relay is not None and order.service in self.routes:
            self.relay.stop_listening(self.routes[order.service], (order.host, order.port))

    def _apply(self, order: Endpoints) -> None:
        if self.relay is not None and order.endpoints is not None:
            self.relay.apply(self.routes[order.service], order.endpoints)
        self.control.send(Applied(order.service, order.generation))

    def _change(self, order: Changes) -> None:
        if self.relay is not None:
            self.relay.change(self.routes[order.service], order.put, order.removed)
        self.control.send(Applied(order.service, order.generation))

    def _drain(self, seconds: float, *, handed_over: bool = False) -> None:
        self.draining = True
        if self.relay is None:
            self.loop.stop()
        else:
            self.relay.drain(seconds, self._drained, handed_over=handed_over)

    def _drained(self) -> None:
        self._send_stats()
        self.loop.stop()

    def _orphaned(self) -> None:
        """The parent has gone: free the ports for its successor and let clients finish.

        One that goes during a drain was in a hurry (a second signal, its own deadline), so we are.
        """
        if self.relay is not None:
            self.relay.datagrams.close()
        if self.draining:
            self.loop.stop()
        else:
            self._drain(self.orphan_drain)

    def _on_broken(self, _listener: Listener, _error: OSError) -> None:
        self.exit_code = 1
        self.loop.stop()

    def _report(self) -> None:
        if not self.control.behind:
            self._send_stats()
        self.loop.call_later(STATS_PERIOD, self._report)

    def _send_stats(self) -> None:
        if self.relay is None:
            return
        for session in self.relay.sessions:
            session.account()
        waiting = [dial.route.name for dial in self.relay.dials if dial.phase is Phase.PARKED]
        now = self.loop.now
        services = {name: accounts.news(now, waiting.count(name)) for name, accounts in self.accounts.items()}
        self.control.send(Stats(self.relay.connections, services))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on an inherited control socket; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ambnet.relay.worker", description=__doc__)
    parser.add_argument("--control", type=int, required=True, metavar="FD", help="inherited socket to the parent")
    parser.add_argument("--doors", type=int, metavar="FD", help="inherited socket through which listeners come")
    arguments = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a signal to the whole group is the parent's to answer
    calm_collector()
    doors = None if arguments.doors is None else socket.socket(fileno=arguments.doors)
    return Worker(socket.socket(fileno=arguments.control), doors).run()


if __name__ == "__main__":
    sys.exit(main())
