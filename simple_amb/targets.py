"""Fixed targets whose names are looked up when somebody connects, without the relay waiting for the answer."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ambcore.model import join_host_port
from ambnet.relay.loop import Timer
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.upstream import Endpoint
from simple_amb.wiring import Forward, Target

log = logging.getLogger("targets")

FRESH = 1.0  # seconds an answer is used again: a burst of clients asks once
PATIENCE = 1.0  # seconds that clients wait for another answer: glibc may take 10 for each server that is silent

Lookup = Callable[[str], list[str]]


def look_up(name: str) -> list[str]:
    """All addresses of a host, the resolver's best first. Raises OSError."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # Python's own word for a label that is empty or too long
        raise OSError(errno.EINVAL, "no host can be called that") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_literal(host: str) -> bool:
    """Whether the host is an IP address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def by_name(forward: Forward, lookup: Lookup = look_up) -> Forward:
    """A link's forward to its name in place of its address, if the name means that address now.

    Docker corrects the name when the linked container restarts with another address; the variable stays as it was.
    """
    if forward.alias is None:
        return forward
    ((host, port),) = forward.targets
    with contextlib.suppress(OSError):
        if host in lookup(forward.alias):
            return replace(forward, targets=((forward.alias, port),))
    return forward


class Targets(Route):
    """A route over fixed targets in order, each with all its addresses.

    While names are looked up clients wait; if that fails or takes long, the last addresses known are used.
    """

    __slots__ = ("_answered_at", "_asking", "_failed", "_known", "_look_up", "_names", "_relay", "_targets", "_waiting")

    def __init__(
        self, relay: Relay, targets: Sequence[Target], lookup: Lookup = look_up, name: str = "targets"
    ) -> None:
        super().__init__(name)
        self._relay = relay
        self._targets = tuple(targets)
        self._look_up = lookup
        self._known = {host: [host] for host, _ in targets if is_literal(host)}
        self._names = [host for host in dict.fromkeys(host for host, _ in targets) if host not in self._known]
        self._answered_at = -FRESH
        self._asking = False
        self._waiting: Timer | None = None  # ends the time in which clients wait for the look-up that runs
        self._failed: set[str] = set()
        if self._known:
            self._use_known()

    def prepare(self) -> bool:
        """Start a look-up unless all are addresses or were looked up just now; false while one runs, but not long."""
        if not self._names or (not self._asking and time.monotonic() - self._answered_at < FRESH):
            return True
        if not self._asking:
            self._asking = True
            self._waiting = self._relay.loop.call_later(PATIENCE, self._wait_no_longer)
            try:
                threading.Thread(target=self._ask, name="lookup", daemon=True).start()
            except RuntimeError:  # the limit of tasks, or no memory
                shortage = OSError(errno.EAGAIN, "no thread can be started")
                self._take_over(dict.fromkeys(self._names, shortage))
        return self._waiting is None

    def _wait_no_longer(self) -> None:
        """The look-up goes on, and clients are led to what is known; where nothing is, they are parked as ever."""
        self._waiting = None
        self._relay.reconsider(self)

    def _ask(self) -> None:
        """In a thread of its own: getaddrinfo waits as long as the resolver's configuration says."""
        answers: dict[str, list[str] | OSError] = {}
        for name in self._names:
            try:
                answers[name] = self._look_up(name)
            except OSError as error:
                answers[name] = error
        self._relay.loop.call_soon_threadsafe(lambda: self._take_over(answers))

    def _take_over(self, answers: dict[str, list[str] | OSError]) -> None:
        for name, answer in answers.items():
            if isinstance(answer, OSError):
                self._say_failed(name, answer)
            else:
                self._failed.discard(name)
                self._known[name] = answer
        self._asking = False
        self._answered_at = time.monotonic()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._use_known()
        if not self.upstreams and self._relay.parked:  # those who wait are served when the resolver is well again
            self._relay.loop.call_later(FRESH, self.prepare)

    def _use_known(self) -> None:
        """Lead clients to every address that is known."""
        endpoints = {
            (address, port): Endpoint(join_host_port(host, port), address, port)
            for host, port in self._targets
            for address in self._known.get(host, ())
        }
        self._relay.apply(self, endpoints.values())

    def _say_failed(self, name: str, error: OSError) -> None:
        if name not in self._failed:
            self._failed.add(name)
            known = "its last addresses stay" if name in self._known else "no address is known"
            log.warning("looking up %s: %s; %s", name, error.strerror, known)
