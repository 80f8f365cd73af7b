"""A listener that rests while the relay fills up goes on when there is room, be it that nobody else has met the cap."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ambnet.relay.limits import Limits
from ambnet.relay.listener import Accept
from ambnet.relay.loop import Loop
from ambnet.relay.relay import PAUSE, Relay
from ambnet.relay.route import Route
from tests.support.relay_peers import Address, Instance, connect
from tests.support.relay_worker import endpoint

LONG = 10.0  # seconds in which what is waited for has come


class Scene:
    """A relay that runs when it is told to, with a port for each route."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.relay = Relay(self.loop, Limits(max_connections=2, park_max=1), 1000, lambda *_: None)

    def listen(self, route: Route, accept: Accept | None = None) -> Address:
        """Where the route's clients go."""
        sock = socket.create_server(("127.0.0.1", 0))
        address: Address = sock.getsockname()
        self.relay.listen(sock, route, accept)
        return address

    def run(self, seconds: float) -> None:
        """Let the relay do what there is to do."""
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run()

    def until(self, reached: Callable[[], bool]) -> None:
        """Let the relay run until this has come about."""
        end = self.loop.now + LONG
        while not reached():
            assert self.loop.now < end
            self.run(0.01)

    def close(self) -> None:
        """End it all."""
        self.relay.close()
        self.loop.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def test_a_port_that_rests_as_many_wait_goes_on_when_another_has_filled_the_relay(
    scene: Scene, instance: Instance
) -> None:
    """Its time to go on comes while the relay is full to the last connection, which nobody has noticed yet."""
    unknown, known = Route("unknown"), Route("known")
    scene.relay.apply(known, [endpoint("one", instance)])
    resting, open_one = scene.listen(unknown), scene.listen(known)
    connect(resting)
    scene.until(lambda: scene.relay.parked == 1)
    connect(resting)
    other = connect(open_one)
    scene.until(lambda: scene.relay.full)
    scene.run(2 * PAUSE)
    scene.relay.apply(unknown, [endpoint("one", instance)])
    other.close()
    instance.accept().close()
    scene.until(lambda: unknown.counters["connected"] == 2)


def test_a_port_that_lacked_files_goes_on_when_another_has_filled_the_relay(scene: Scene, instance: Instance) -> None:
    """The other one had begun to rest before, so that its turn came first."""
    short, learning = Route("short"), Route("learning")
    scene.relay.apply(short, [endpoint("one", instance)])
    resting = scene.listen(learning)
    clients = [connect(resting)]
    scene.until(lambda: scene.relay.parked == 1)
    clients.append(connect(resting))
    [listener] = scene.relay.listeners
    scene.until(lambda: not listener.watched)
    scene.relay.apply(learning, [endpoint("one", instance)])

    def lacks_files() -> tuple[int, Any]:
        scene.relay.listeners[1].accept = scene.relay.listeners[1].sock.take
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    connect(scene.listen(short, lacks_files))
    scene.until(lambda: scene.relay.full)
    scene.run(2 * PAUSE)
    clients[0].close()
    instance.accept().close()
    scene.until(lambda: short.counters["connected"] == 1)
