"""Urgent data in a stream that is spliced. splice(2) goes up to its mark and no further, whatever comes after it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from ambnet.relay.limits import Limits
from ambnet.relay.loop import Loop
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.session import Side
from ambnet.relay.sockets import open_listeners
from tests.support.relay_peers import Instance, connect
from tests.support.relay_worker import endpoint

Ends = tuple[socket.socket, socket.socket]

TURNS = 200  # of 10 ms or less; one or two are enough as a rule
BULK = 1024 * 1024


class Scene:
    """A relay that runs when it is told to, and a connection through it."""

    def __init__(self, instance: Instance) -> None:
        self._loop = Loop()
        self._relay = Relay(self._loop, Limits(), files=1000, on_broken=lambda *_: None)
        route = Route("urgent")
        self._relay.apply(route, [endpoint("one", instance)])
        [listening] = open_listeners("127.0.0.1", 0)
        client = connect(listening.getsockname())
        self._relay.listen(listening, route)
        while not self._relay.sessions:
            self.turn()
        self.ends = client, instance.accept()
        for end in self.ends:
            end.setblocking(False)

    def turn(self) -> None:
        """Let the relay do what there is to do."""
        self._loop.call_later(0.01, self._loop.stop)
        self._loop.run()

    def side(self, speaker: socket.socket) -> Side:
        """The relay's end of the direction that begins at this one."""
        [session] = self._relay.sessions
        return session.client if speaker is self.ends[0] else session.server

    def splice(self, speaker: socket.socket, reader: socket.socket) -> None:
        """Send until the direction is spliced and all that was sent has come."""
        sent = received = 0
        while (side := self.side(speaker)).pipe is None or received < sent:
            if side.pipe is None:
                with contextlib.suppress(BlockingIOError):
                    sent += speaker.send(bytes(BULK))
            self.turn()
            received += len(pending(reader))

    def close(self) -> None:
        """End the connection and the relay."""
        self._relay.close()
        self._loop.close()


def pending(sock: socket.socket) -> bytes:
    """What has come."""
    pieces = []
    with contextlib.suppress(BlockingIOError):
        while piece := sock.recv(BULK):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def scene(instance: Instance) -> Iterator[Scene]:
    made = Scene(instance)
    yield made
    made.close()


@pytest.mark.parametrize("says", ["no more", "FIN"])
@pytest.mark.parametrize("speaker", ["client", "instance"])
def test_what_comes_after_urgent_data_arrives_before_the_end(scene: Scene, speaker: str, says: str) -> None:
    """The urgent byte itself may be lost, as nobody asks for it; every other one arrives, and a FIN after them."""
    one, other = scene.ends if speaker == "client" else scene.ends[::-1]
    scene.splice(one, other)
    rest = os.urandom(100_000)
    one.send(b"!", socket.MSG_OOB)
    assert one.send(rest) == len(rest)
    if says == "FIN":
        one.shutdown(socket.SHUT_WR)
    received = b""
    for _ in range(TURNS):
        scene.turn()
        received += pending(other)
        if received[-len(rest) :] == rest and scene.side(one).ended is (says == "FIN"):
            break
    assert received[-len(rest) :] == rest
    assert len(received) <= len(rest) + 1
    assert scene.side(one).ended is (says == "FIN")
