"""Decision 10 in numbers: most instances are dead, or said to be. Ejected ones are asked last. The control is how Envoy
does it: everybody is asked as if all were well, while less than half of them are (its panic threshold, 50 %).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ambnet.relay.balanced import balanced
from ambnet.relay.limits import Limits
from ambnet.relay.loop import Loop
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.upstream import Endpoint, Upstream
from tests.support.relay_peers import Address, Greeter, ask, black_hole
from tests.support.relay_worker import endpoint

CLIENTS, AT_ONCE = 100, 10
TIMEOUT = 0.2  # seconds of patience with one instance; 3 in earnest
Figure = Callable[[str], None]


class Threshold(Route):
    """Does not ask the ejected and the ill last while they are more than half."""

    def order(self, source: str, now: float) -> Iterator[Upstream]:
        ill = sum(upstream.asked_last(now) for upstream in self.takers)
        if 2 * ill > len(self.takers):
            return self._order(source, self.load)
        return super().order(source, now)


@contextlib.contextmanager
def serving(kind: type[Route], endpoints: Sequence[Endpoint]) -> Iterator[tuple[Address, Route]]:
    """A relay in a thread: where it listens, and its route of this kind."""
    loop = Loop()
    relay = Relay(loop, Limits(connect_timeout=TIMEOUT), 4096, lambda *_: None)
    route = kind("redis-A", balanced("round-robin"))
    relay.apply(route, endpoints)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    where: Address = listener.getsockname()
    relay.listen(listener, route)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield where, route
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        relay.close()
        loop.close()


def visits(where: Address) -> Counter[str]:
    """Who answered so many clients."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(ask, [where] * CLIENTS))


@pytest.mark.parametrize(("kind", "least", "most"), [(Route, 9, 45), (Threshold, 75, 300)], ids=["last", "threshold"])
def test_C3_three_of_four_silent(kind: type[Route], least: int, most: int, figure: Figure) -> None:
    """Asked last, they cost those who come while that is found out, and none after them."""
    with contextlib.ExitStack() as stack:
        alive = stack.enter_context(Greeter("alive"))
        holes = [endpoint(f"hole-{number}", stack.enter_context(black_hole())) for number in range(3)]
        where, route = stack.enter_context(serving(kind, [*holes, endpoint("alive", alive)]))
        answers = visits(where)
        waits = sum(traffic.connect_failures for traffic in route.traffic.values())
    assert answers == {"alive": CLIENTS}
    figure(f"three of four silent, {kind.__name__}: {CLIENTS} clients waited {waits} times for one of them")
    assert least <= waits <= most


@pytest.mark.parametrize(("kind", "share"), [(Route, 100), (Threshold, 25)], ids=["last", "threshold"])
def test_C3_three_of_four_said_to_be_ill_that_are_well(kind: type[Route], share: int, figure: Figure) -> None:
    """A false alarm: nobody fails either way, and the one that is left has all the work, or its part of it."""
    with contextlib.ExitStack() as stack:
        greeters = [stack.enter_context(Greeter(name)) for name in "abcd"]
        rows = [endpoint(each.name, each)._replace(healthy=each.name == "a") for each in greeters]
        where, _ = stack.enter_context(serving(kind, rows))
        answers = visits(where)
    assert sum(answers.values()) == CLIENTS
    figure(f"three of four falsely called ill, {kind.__name__}: the fourth got {answers['a']} of {CLIENTS} clients")
    assert answers["a"] == share
