"""A relay that counts: how many connections a client address has, and how many an instance.

A relay without such caps is the plain one, which pays nothing for them.

A client whose instances are all full waits in line, parked like one that has none to go to. Whoever is released is the
first of its route, and a newcomer goes to the end of the line, so that nobody overtakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from ambnet.relay.access import ANYBODY, Access
from ambnet.relay.dial import Dial, Phase
from ambnet.relay.greeting import Greeting
from ambnet.relay.limits import Limits
from ambnet.relay.listener import Listener
from ambnet.relay.loop import Loop
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.session import Session
from ambnet.relay.sockets import Socket
from ambnet.relay.upstream import Upstream


def relay_within(
    loop: Loop,
    limits: Limits,
    files: int,
    on_broken: Callable[[Listener, OSError], None],
    access: Access = ANYBODY,
) -> Relay:
    """The relay that keeps to these limits, with as little work as they ask for."""
    capped = limits.max_per_source is not None or limits.max_per_instance is not None
    return (CappedRelay if capped else Relay)(loop, limits, files, on_broken, access)


class CappedDial(Dial):
    """A client that looks for an instance with room. While it waits for an answer its place there is taken."""

    __slots__ = ("_capped", "_most", "_passed_over", "_place")

    def __init__(  # noqa: PLR0917 - a Dial's, and the cap
        self, relay: CappedRelay, route: Route, client: int, source: str, preface: bytes, most: int
    ) -> None:
        super().__init__(relay, route, client, source, preface)
        self._capped = relay
        self._most = most
        self._passed_over = False  # in this round a full one that is well
        self._place: Upstream | None = None

    def start(self) -> None:
        """Ask, or wait in line if somebody of the route does."""
        if self.route.prepare() and self.route.takers and not self._capped.line[self.route]:
            self._begin_round()
        else:
            self._park()
            self._capped.let_in(self.route)

    def _order(self) -> Iterator[Upstream]:
        """Those with room. To wait for one that is well is better than to ask one that is ill, so those come last as
        ever, and not at all while one that is well is full.
        """
        self._passed_over = False
        now = self.relay.loop.now
        for upstream in super()._order():
            if upstream.open + upstream.awaited >= self._most:
                self.route.counters["instance_full"] += 1
                self._passed_over = self._passed_over or not upstream.asked_last(now)
            elif self._passed_over and upstream.asked_last(now):
                return
            else:
                yield upstream

    def _await_answer(self, upstream: Upstream, server: Socket) -> None:
        super()._await_answer(upstream, server)
        self._place = upstream
        upstream.awaited += 1

    def _nobody(self) -> None:
        """Nobody answered in this round; where somebody is full, that one will have room again."""
        retried = self._asked and self.relay.loop.now - self._started < self.relay.limits.retry
        if not self._passed_over or retried:
            super()._nobody()
        else:
            self.upstream = None
            self._park()

    def _enter(self, phase: Phase) -> None:
        super()._enter(phase)
        self._capped.line[self.route] += phase is Phase.PARKED

    def _leave_phase(self) -> None:
        self._capped.line[self.route] -= self.phase is Phase.PARKED
        super()._leave_phase()
        if self._place is not None:
            self._place.awaited -= 1
            self._place = None
            self._capped.let_in(self.route)


class CappedRelay(Relay):
    """A Relay with `max_per_source` or `max_per_instance`. `line` counts the clients that are parked, by route."""

    def __init__(
        self,
        loop: Loop,
        limits: Limits,
        files: int,
        on_broken: Callable[[Listener, OSError], None],
        access: Access = ANYBODY,
    ) -> None:
        super().__init__(loop, limits, files, on_broken, access)
        self._plain = False
        self.line: Counter[Route] = Counter()
        self._freed: set[Route] = set()
        self._sources: dict[int, str] = {}  # by the client's descriptor, which is its own until it has ended
        self._connections: Counter[str] = Counter()  # by source

    def _take_on(self, route: Route, client: int, source: str, preface: bytes) -> None:
        most = self.limits.max_per_source
        if most is not None and self._connections[source] >= most:
            route.counters["source_full"] += 1
            self.say_seldom("source", f"{route.name}: a client at {source} is refused, it has {most} connections")
            self._refuse(client)
            return
        self._connections[source] += 1
        self._sources[client] = source
        each = self.limits.max_per_instance
        if each is None:
            super()._take_on(route, client, source, preface)
        else:
            CappedDial(self, route, client, source, preface, each).start()

    def dial_ended(self, dial: Dial | Greeting) -> None:
        """A dial is over without a session."""
        if isinstance(dial, Dial):
            self._forget(dial.client)
        super().dial_ended(dial)

    def session_ended(self, session: Session) -> None:
        """A session is over, and its place free."""
        self._forget(session.client.fd)
        self.let_in(session.route)
        super().session_ended(session)

    def _forget(self, client: int) -> None:
        source = self._sources.pop(client)
        self._connections[source] -= 1
        if not self._connections[source]:
            del self._connections[source]

    def let_in(self, route: Route) -> None:
        """After this batch of events give the route's free places to those who wait, in the order they came."""
        if self.line[route]:
            if not self._freed:
                self.loop.put_off(self)
            self._freed.add(route)

    def finish(self) -> None:
        """Do so. A client that is let in and finds that its instance refuses rests and tries again by itself."""
        freed, self._freed = self._freed, set()
        for route in freed:
            waiting = (dial for dial in self.dials if dial.route is route and dial.phase is Phase.PARKED)
            for dial in tuple(islice(waiting, self._room(route))):
                dial.reconsider()

    def _room(self, route: Route) -> int:
        """How many places are free at instances that are well, or if none is, at those there are."""
        most, now = self.limits.max_per_instance or 0, self.loop.now
        well = [upstream for upstream in route.takers if not upstream.asked_last(now)]
        return sum(max(0, most - upstream.open - upstream.awaited) for upstream in well or route.takers)
