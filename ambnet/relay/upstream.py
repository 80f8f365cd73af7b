"""An instance as the relay sees it: where it answers, what it carried, whether it failed lately."""

from __future__ import annotations

import socket
from typing import NamedTuple

EJECT_AFTER = 3  # connect failures in a row; Envoy's and HAProxy's outlier rules start at 5 and 3
EJECT_FIRST = 5.0  # seconds asked last the first time; doubled each time it fails again
EJECT_MOST = 60.0
PROBATION = 3.0  # seconds that one client may take to find out whether it is well again: a connect timeout


Key = tuple[str, str, int]  # what makes an upstream: an instance's id and where it answers


class Endpoint(NamedTuple):
    """One instance of a service: `host` is an IP literal, `weight` at least 1, `takes_new` false while draining.

    `healthy` is false while somebody who asked it found it ill: it is asked last.
    """

    id: str
    host: str
    port: int
    weight: int = 1
    takes_new: bool = True
    healthy: bool = True


class Traffic:
    """What an instance carried, under one id, whatever addresses it had. Bytes: in is client to instance.

    `addresses` counts its upstreams. `news` is where it notes that it has changed since that was last cleared.
    """

    __slots__ = (
        "addresses",
        "bytes_in",
        "bytes_out",
        "connect_failures",
        "connections",
        "connections_total",
        "id",
        "news",
    )

    def __init__(self, name: str, news: dict[str, Traffic]) -> None:
        self.id = name
        self.news = news
        self.addresses = 0
        self.connections = 0
        self.connections_total = 0
        self.connect_failures = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.changed()

    def changed(self) -> None:
        """Have it told."""
        self.news[self.id] = self


class Upstream:
    """One address of one instance, and how it behaved.

    `left` is when it was removed from the table, None while it is in it. `open` counts its connections; those of its
    `traffic` are the instance's, which may have had another address before. `awaited` counts the clients that wait for
    its answer, where there is a cap (`capped`).
    """

    __slots__ = (
        "address",
        "awaited",
        "ejected_until",
        "failures",
        "family",
        "healthy",
        "id",
        "left",
        "on_probation",
        "open",
        "penalty",
        "takes_new",
        "traffic",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, traffic: Traffic) -> None:
        self.id = endpoint.id
        self.address = (endpoint.host, endpoint.port)
        self.family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        self.traffic = traffic
        traffic.addresses += 1
        self.open = 0
        self.awaited = 0
        self.update(endpoint)
        self.failures = 0
        self.penalty = EJECT_FIRST
        self.ejected_until = 0.0
        self.on_probation = False

    def update(self, endpoint: Endpoint) -> None:
        """Take over what may change while the address stays."""
        self.weight = endpoint.weight
        self.takes_new = endpoint.takes_new
        self.healthy = endpoint.healthy
        self.left: float | None = None

    def asked_last(self, now: float) -> bool:
        """Whether others are asked first: it failed lately, or is known to be ill."""
        return now < self.ejected_until or not self.healthy

    def opened(self) -> None:
        """Note a connection."""
        self.open += 1
        traffic = self.traffic
        traffic.connections += 1
        traffic.connections_total += 1
        traffic.changed()

    def closed(self) -> None:
        """Note the end of one."""
        self.open -= 1
        self.traffic.connections -= 1
        self.traffic.changed()

    def failed(self, now: float) -> bool:
        """Note a failed connect; true when this one ejects it."""
        self.traffic.connect_failures += 1
        self.traffic.changed()
        self.failures += 1
        if self.failures < EJECT_AFTER or (now < self.ejected_until and not self.on_probation):
            return False
        self.on_probation = False
        self.ejected_until = now + self.penalty
        self.penalty = min(EJECT_MOST, self.penalty * 2)
        return True

    def try_again(self, now: float) -> None:
        """The ejection is over: one client finds out for all, who pass it by for as long as that may take."""
        self.on_probation = True
        self.ejected_until = now + PROBATION

    def answered(self) -> None:
        """Forgive what it did before: a connect worked."""
        self.failures = 0
        self.on_probation = False
        self.penalty = EJECT_FIRST
        self.ejected_until = 0.0
