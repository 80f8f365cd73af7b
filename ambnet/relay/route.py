"""What a listener leads to: which instances to ask for a new connection, in which order, and the numbers kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ambnet.relay.upstream import EJECT_AFTER, Endpoint, Key, Traffic, Upstream

# What can happen to clients of a route, in words fit for a metric's label, and for people.
COUNTERS: Final[Mapping[str, str]] = {
    "accepted": "clients taken on",
    "no_room": "accepting paused, as no more connections fit or files or memory ran out; clients wait in the backlog",
    "not_allowed": "clients reset at once, by --allow",
    "source_full": "clients reset at once, by --max-per-source",
    "instance_full": "times that an instance was passed over, as it had --max-per-instance connections",
    "proxy_header_refused": "headers wrong, late or cut short, where --accept-proxy asks for one",
    "connected": "clients for whom an instance answered",
    "parked": "clients that had to wait, as no instance was known, took new connections or had room",
    "park_expired": "clients that waited in vain until their time was up",
    "park_refused": "clients closed at once, as many waited already",
    "unanswered": "clients for whom every instance was asked in vain",
    "client_gone": "clients that left before an instance answered",
    "went_round": "clients reset, as proxies that lead to each other had passed them on too often",
    "local_errors": "connects that failed for a reason of this machine: no port, no file, no memory",
    "reset": "connections ended by a reset, whoever began it",
    "idle_closed": "connections ended by --idle-timeout",
    "half_open_closed": "connections ended as one side had ended and the other said nothing for long",
    "removed_closed": "connections ended by --on-removal",
    "drain_closed": "connections still there when a drain's time was up",
}

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
    """A service's upstreams, and what they carried, which survives every change of them.

    `arrange` prepares them for asking (a balancing policy, or `in_order`). `on_removal` is for how many seconds
    connections of a removed instance may go on, None for ever. `send_proxy` is the version of the PROXY protocol in
    which they are told who a client is, 0 for not at all. `news` are the numbers that nobody was told yet and
    `gone` the instances of which nothing is left; whoever tells them clears both. It is `known` once it was told of its
    instances, be it that there is none.
    """

    __slots__ = (
        "_ejected",
        "_order",
        "_takers",
        "arrange",
        "counters",
        "departed",
        "gone",
        "known",
        "name",
        "news",
        "on_removal",
        "send_proxy",
        "traffic",
        "upstreams",
    )

    def __init__(
        self,
        name: str,
        arrange: Callable[[Sequence[Upstream]], Order] = in_order,
        on_removal: float | None = None,
        send_proxy: int = 0,
    ) -> None:
        self.name = name
        self.arrange = arrange
        self.on_removal = on_removal
        self.send_proxy = send_proxy
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.traffic: dict[str, Traffic] = {}
        self.news: dict[str, Traffic] = {}
        self.gone: list[str] = []
        self.known = False
        self.upstreams: dict[Key, Upstream] = {}
        self.departed: dict[Key, Upstream] = {}  # removed, with connections still open
        self._takers: tuple[Upstream, ...] | None = ()  # None: not made since the last change, as is `_order`
        self._order: Order = in_order(())
        self._ejected: set[Upstream] = set()

    def prepare(self) -> bool:
        """Get ready for a new client; false if it has to wait until `Relay.reconsider` is called for this route."""
        return True

    @property
    def takers(self) -> tuple[Upstream, ...]:
        """Those that take new connections. Made when first asked for: of many changes in a row only the last counts."""
        return self._arranged() if self._takers is None else self._takers

    def _arranged(self) -> tuple[Upstream, ...]:
        self._takers = takers = tuple(upstream for upstream in self.upstreams.values() if upstream.takes_new)
        self._order = self.arrange(takers)
        return takers

    def replace(self, endpoints: Iterable[Endpoint], now: float) -> list[Upstream]:
        """Make these the instances from now on, in this order; returns the upstreams that were removed by it.

        An instance that stays or comes back keeps its history. One with a new address is a new upstream under the same
        numbers; what is connected to the old address is connected to a removed upstream.
        """
        fresh = {endpoint[:3]: endpoint for endpoint in endpoints}
        removed = self.change(fresh.values(), [key for key in self.upstreams if key not in fresh], now)
        self.upstreams = {key: self.upstreams[key] for key in fresh}
        return removed

    def change(self, put: Iterable[Endpoint], removed: Iterable[Key], now: float) -> list[Upstream]:
        """Add or alter some instances and remove others, as `replace` does; costs nothing for those that stay."""
        leaving = [self.upstreams.pop(key) for key in removed if key in self.upstreams]
        for upstream in leaving:
            upstream.left = now
            self.departed[upstream.id, *upstream.address] = upstream
        for endpoint in put:
            upstream = self._upstream(endpoint)
            self.upstreams[endpoint[:3]] = upstream
            if not upstream.healthy:
                self._ejected.add(upstream)
        self._ejected.difference_update(leaving)
        self._takers = None
        self.known = True
        self.forget()
        return leaving

    def _upstream(self, endpoint: Endpoint) -> Upstream:
        key = endpoint[:3]
        known = self.upstreams.get(key) or self.departed.pop(key, None)
        if known is None:
            if endpoint.id not in self.traffic:
                self.traffic[endpoint.id] = Traffic(endpoint.id, self.news)
            return Upstream(endpoint, self.traffic[endpoint.id])
        known.update(endpoint)
        return known

    def forget(self) -> None:
        """Drop removed upstreams without connections, and the numbers of instances that nothing is left of."""
        for key in [key for key, upstream in self.departed.items() if not upstream.open]:
            traffic = self.departed.pop(key).traffic
            traffic.addresses -= 1
            if not traffic.addresses:
                del self.traffic[traffic.id]
                self.news.pop(traffic.id, None)
                self.gone.append(traffic.id)

    def order(self, source: str, now: float) -> Iterator[Upstream]:
        """Whom to ask for a client at `source`, best first: ejected ones last, as a last resort better than none."""
        if self._takers is None:
            self._arranged()
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
