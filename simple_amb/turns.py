"""simple-amb before and after others of its kind: `ambnet.handover` in the relay's loop."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from ambcore.errors import ConfigError
from ambnet.handover.heir import Arrival, arrive, take_over
from ambnet.handover.holder import Holder
from ambnet.handover.words import OPTION
from ambnet.relay.inherited import inherited
from ambnet.relay.loop import IN, Loop, Timer
from ambnet.relay.relay import Relay

log = logging.getLogger("hand-over")


class Turns:
    """Use: one before a port is opened, `begin` when all are. Raises ConfigError; see `arrive`."""

    def __init__(self, path: str) -> None:
        self._arrival: Arrival = arrive(path)
        self._handed = len(self._arrival.sockets)
        self._holder: Holder | None = None
        if self._arrival.holder is not None:
            inherited().add(self._arrival.sockets)

    def begin(self, loop: Loop, relay: Relay, over: Callable[[], None]) -> None:
        """Wait for our turn, and hand over to whoever comes from then on; `over` is called when that one serves.

        Raises ConfigError if we have no use for what we were given, or whoever serves goes on with that.
        """
        if self._handed and len(inherited()) == self._handed:
            raise ConfigError(OPTION, "whoever serves there listens on none of our ports: it has another work than we")
        inherited().leave()
        if self._arrival.holder is not None:
            take_over(self._arrival.holder)
            self._arrival.holder.close()
            log.info("taken over %d sockets: whoever served before finishes what it has", self._handed)

        def sockets() -> list[socket.socket]:
            return [*(each.sock for each in relay.listeners), *(each.sock for each in relay.datagrams.ports)]

        watching = _Watching(loop)
        self._holder = Holder(watching, self._arrival.listener, sockets, lambda then: then(), lambda: None, over)

    def leave(self) -> bool:
        """Let an heir take over at once, as we end; whether there is one."""
        if self._holder is None:
            return False
        heir = self._holder.has_heir
        self._holder.yield_now()
        self._holder.close()
        return heir


class _Watching:
    """A Loop as a Watch."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def add_reader(self, fd: int, ready: Callable[[], object]) -> None:
        self._loop.add(fd, IN, lambda _: ready())

    def remove_reader(self, fd: int) -> None:
        self._loop.remove(fd)

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        return self._loop.call_later(delay, call)
