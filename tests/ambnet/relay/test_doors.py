"""Sockets on their way to a worker that runs."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from ambnet.relay.doors import Doors, hand_in
from ambnet.relay.loop import Loop
from ambnet.relay.protocol import Close, RouteSetup


@contextlib.contextmanager
def room_for(files: int) -> Iterator[None]:
    """This process may open so many files more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + files, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_sockets_that_do_not_fit_are_an_error_and_not_lost_without_a_word() -> None:
    """The kernel drops them, and their clients would wait for ever; the worker ends, and the next one gets them all."""
    orders: list[RouteSetup | Close] = []
    with contextlib.ExitStack() as stack:
        ours, theirs = map(stack.enter_context, socket.socketpair(type=socket.SOCK_SEQPACKET))
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        loop = Loop()
        stack.callback(loop.close)

        def on_order(order: RouteSetup | Close) -> None:
            orders.append(order)
            loop.stop()

        Doors(loop, theirs, on_order)
        setup = RouteSetup("s", tuple(each.fileno() for each in listeners))
        hand_in(ours, setup)
        with room_for(2), pytest.raises(OSError, match="more sockets than we may have open files"):
            loop.run()
    assert orders == []
