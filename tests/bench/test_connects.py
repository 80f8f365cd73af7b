"""The client that counts errors: everything that goes wrong is counted, and nothing else is."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from bench.clients.connects import PONG, SLOW, Clients, run

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(serve: Serve) -> Iterator[tuple[str, int]]:
    """A server that does this to each client, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    serve(client)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def pong(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(PONG)


def hang_up(client: socket.socket) -> None:
    client.recv(100)


def babble(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(b"-LOADING\r\n")


def load(address: tuple[str, int], count: int, at_once: int = 10, rate: float = 0) -> Clients:
    clients = Clients(address)
    run(clients, count, at_once, rate)
    return clients


def test_a_server_that_answers_causes_no_error() -> None:
    with server(pong) as address:
        clients = load(address, 200)
    assert (clients.ended, dict(clients.errors), clients.slow) == (200, {}, [])
    assert clients.worst > 0


@pytest.mark.parametrize(("serve", "error"), [(hang_up, "closed"), (babble, "answer")])
def test_who_accepts_and_does_not_answer_a_ping_has_failed(serve: Serve, error: str) -> None:
    with server(serve) as address:
        clients = load(address, 20)
    assert dict(clients.errors) == {error: 20}


def test_a_refused_connection_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else gets the port
        clients = load(unused.getsockname(), 20)
    assert dict(clients.errors) == {"ECONNREFUSED": 20}


def test_a_slow_answer_is_slow_and_no_error() -> None:
    late = threading.Event()

    def hesitate(client: socket.socket) -> None:
        late.wait(SLOW + 0.1)
        pong(client)

    with server(hesitate) as address:
        clients = load(address, 1)
    assert len(clients.slow) == 1
    assert not clients.errors
    assert clients.worst > SLOW


def test_strangers_begin_at_their_rate_whatever_became_of_those_before() -> None:
    with server(pong) as address:
        clients = Clients(address)
        assert run(clients, 50, 50, 100) >= 0.45
    assert clients.ended == 50
