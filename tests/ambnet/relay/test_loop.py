"""The epoll loop."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from ambnet.relay.loop import IN, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        other.settimeout(5)
        yield one, other


def test_timers_run_in_the_order_of_their_times(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_later(0.03, loop.stop)
    loop.call_later(0.02, lambda: ran.append("second"))
    loop.call_later(0.01, lambda: ran.append("first"))
    loop.call_later(0.015, lambda: ran.append("never")).cancel()
    loop.run()
    assert ran == ["first", "second"]


def test_another_thread_can_call_in(loop: Loop) -> None:
    threads: list[int] = []

    def call() -> None:
        threads.append(threading.get_ident())
        loop.stop()

    threading.Thread(target=loop.call_soon_threadsafe, args=(call,)).start()
    loop.run()
    assert threads == [threading.get_ident()]


def test_a_socket_discarded_by_a_timer_is_closed_at_once(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """Not at the next event, which may be seconds away."""
    one, other = pair
    began = time.monotonic()
    ended: list[float] = []

    def wait() -> None:
        assert other.recv(1) == b""
        ended.append(time.monotonic() - began)
        loop.call_soon_threadsafe(loop.stop)

    waiting = threading.Thread(target=wait)
    waiting.start()
    loop.call_later(0.01, lambda: loop.discard(one.detach()))
    loop.call_later(3.0, loop.stop)
    loop.run()
    waiting.join()
    assert ended[0] < 2.0


def test_no_handler_hears_of_a_socket_discarded_in_the_same_batch(loop: Loop) -> None:
    """Its descriptor keeps its number until the batch is over, so that no newcomer gets its events."""
    pairs = [socket.socketpair() for _ in range(2)]
    mine = [one for one, _ in pairs]
    heard: list[socket.socket] = []
    newcomers: list[socket.socket] = []
    numbers = {one.fileno() for one in mine}

    def handler(me: socket.socket, _events: int) -> None:
        heard.append(me)
        for one in mine:
            loop.discard(one.detach())
        newcomers.append(socket.socket())
        assert newcomers[0].fileno() not in numbers
        loop.stop()

    for one, other in pairs:
        loop.add(one.fileno(), IN, partial(handler, one))
        other.send(b"!")
    loop.run()
    assert len(heard) == 1
    for number in numbers:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
    for _, other in pairs:
        other.close()
    newcomers[0].close()


def test_what_a_handler_raises_ends_the_loop(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair

    def fail(_events: int) -> None:
        raise ZeroDivisionError

    loop.add(one.fileno(), IN, fail)
    other.send(b"!")
    with pytest.raises(ZeroDivisionError):
        loop.run()
