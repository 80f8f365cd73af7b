"""What a listener leads to: which instances to ask for a new connection, in which order, and the numbers kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ambnet.relay.upstream import EJECT_AFTER, Endpoint, Traffic, Upstream

# What can happen to clients of a route, in words fit for a metric's label.
COUNTERS = (
    "accepted",
    "connected",
    "parked",  # had to wait because no instance was known or took new connections
    "park_expired",
    "park_refused",  # closed at once, as many waited already
    "unanswered",  # every instance was asked in vain
    "client_gone",  # left before an instance answered
    "local_errors",  # a connect failed for a reason of this machine: no port, no file, no memory
    "reset",
    "idle_closed",
    "half_open_closed",
    "removed_closed",  # by --on-removal
    "drain_closed",  # still there when a drain's time was up
)

Key = tuple[str, str, int]


# Decides whom to ask: gets the client's address without its port and the open connections of an instance by its id,
# gives every upstream once, best first.
Order = Callable[[str, Callable[[str], int]], Iterator[Upstream]]


def in_order(upstreams: Sequence[Upstream]) -> Order:
    """Always the first, the next only if it does not answer."""

    def order(_source: str, _load: Callable[[str], int]) -> Iterator[Upstream]:
        return iter(upstreams)

    return order


def _ejected_last(upstreams: Iterator[Upstream], now: float) -> Iterator[Upstream]:
    """The same ones, with the ejected and the ill at the end. No more are looked at than are asked.

    One whose ejection is over is given to the first client that comes to it, and to nobody else until that one knows.
    """
    late = []
    for upstream in upstreams:
        if upstream.asked_last(now):
            late.append(upstream)
            continue
        if upstream.failures >= EJECT_AFTER:
            upstream.try_again(now)
        yield upstream
    yield from late


class Route:
    """A service's upstreams as one snapshot, replaced as a whole; what they carried survives the replacement.

    `arrange` prepares a snapshot for asking (a balancing policy, or `in_order`). `on_removal` is for how many seconds
    connections of a removed instance may go on, None for ever.
    """

    __slots__ = (
        "_ejected",
        "_order",
        "arrange",
        "counters",
        "departed",
        "name",
        "on_removal",
        "takers",
        "traffic",
        "upstreams",
    )

    def __init__(
        self, name: str, arrange: Callable[[Sequence[Upstream]], Order] = in_order, on_removal: float | None = None
    ) -> None:
        self.name = name
        self.arrange = arrange
        self.on_removal = on_removal
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.traffic: dict[str, Traffic] = {}
        self.upstreams: dict[Key, Upstream] = {}
        self.departed: dict[Key, Upstream] = {}  # removed, with connections still open
        self.takers: tuple[Upstream, ...] = ()  # those that take new connections
        self._order: Order = in_order(())
        self._ejected: set[Upstream] = set()

    def prepare(self) -> bool:
        """Get ready for a new client; false if it has to wait until `Relay.reconsider` is called for this route."""
        return True

    def replace(self, endpoints: Iterable[Endpoint], now: float) -> list[Upstream]:
        """Make these the instances from now on; returns the upstreams that were removed by it.

        An instance that stays or comes back keeps its history. One with a new address is a new upstream under the same
        numbers; what is connected to the old address is connected to a removed upstream.
        """
        known = self.departed | self.upstreams
        fresh = {endpoint[:3]: self._upstream(endpoint, known.get(endpoint[:3])) for endpoint in endpoints}
        removed = [upstream for key, upstream in self.upstreams.items() if key not in fresh]
        for upstream in removed:
            upstream.left = now
        self.departed = {key: upstream for key, upstream in known.items() if key not in fresh}
        self.upstreams = fresh
        self.forget()
        self._ejected = {up for up in fresh.values() if not up.healthy or up in self._ejected}
        self.takers = tuple(upstream for upstream in fresh.values() if upstream.takes_new)
        self._order = self.arrange(self.takers)
        return removed

    def _upstream(self, endpoint: Endpoint, known: Upstream | None) -> Upstream:
        if known is None:
            return Upstream(endpoint, self.traffic.setdefault(endpoint.id, Traffic()))
        known.update(endpoint)
        return known

    def forget(self) -> None:
        """Drop removed upstreams without connections, and the numbers of instances that nothing is left of."""
        self.departed = {key: upstream for key, upstream in self.departed.items() if upstream.open}
        present = {upstream.id for upstream in (*self.upstreams.values(), *self.departed.values())}
        if len(present) < len(self.traffic):
            self.traffic = {name: traffic for name, traffic in self.traffic.items() if name in present}

    def order(self, source: str, now: float) -> Iterator[Upstream]:
        """Whom to ask for a client at `source`, best first: ejected ones last, as a last resort better than none."""
        upstreams = self._order(source, self.load)
        return _ejected_last(upstreams, now) if self._ejected else upstreams

    def ejected(self, now: float) -> set[Upstream]:
        """Those that are asked last now."""
        self._ejected = {upstream for upstream in self._ejected if upstream.failures or not upstream.healthy}
        return {upstream for upstream in self._ejected if upstream.asked_last(now)}

    def load(self, instance: str) -> int:
        """How many connections the instance has open."""
        return self.traffic[instance].connections

    def failed(self, upstream: Upstream, now: float) -> bool:
        """Note that a connect failed by the upstream's fault; true when that ejects it."""
        if ejected := upstream.failed(now):
            self._ejected.add(upstream)
        return ejected
