"""Plain blocking sockets that play client and instance, and do to a relay what real ones do."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, Self

Address = tuple[str, int]
PATIENCE = 10.0  # seconds after which a peer that hears nothing fails its test

_made: list[socket.socket] = []


def connect(address: Address, timeout: float = PATIENCE) -> socket.socket:
    """A client; `close_all` closes it."""
    return _kept(socket.create_connection(address, timeout))


def _kept(sock: socket.socket) -> socket.socket:
    _made.append(sock)
    return sock


def close_all() -> None:
    """Close every client and every accepted connection made here: tests that are about something else need not."""
    while _made:
        _made.pop().close()


class HasAddress(Protocol):
    """Whatever listens somewhere."""

    address: Address


class Instance:
    """A listening socket whose connections the test accepts by hand: `with Instance() as one: one.accept()`."""

    def __init__(self, backlog: int = 1024, sock: socket.socket | None = None) -> None:
        self.sock = sock or socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.sock.settimeout(PATIENCE)
        self.address: Address = self.sock.getsockname()

    def accept(self) -> socket.socket:
        """The next connection; `close_all` closes it."""
        connection, _ = self.sock.accept()
        connection.settimeout(PATIENCE)
        return _kept(connection)

    def close(self) -> None:
        """From now on it refuses."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def talking(relay: HasAddress, instance: Instance) -> tuple[socket.socket, socket.socket]:
    """A client of the relay and the instance's end, once a byte has gone from one to the other.

    An accepted connection alone says only that the kernels have met: the relay may not have heard of it yet.
    """
    client, server = connect(relay.address), instance.accept()
    client.sendall(b"?")
    if server.recv(1) != b"?":
        raise AssertionError("the relay lost a byte")
    return client, server


class Greeter(Instance):
    """Answers every connection with its name and closes it, in a thread."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.sock.settimeout(0.05)
        self._stopped = threading.Event()
        self._thread = in_thread(self._serve)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self.sock.accept()
            except TimeoutError:
                continue
            with connection:
                connection.sendall(self.name.encode())

    def close(self) -> None:
        """Stop answering."""
        self._stopped.set()
        self._thread.join()
        super().close()


@contextlib.contextmanager
def black_hole() -> Iterator[Address]:
    """An address whose SYNs stay unanswered: the backlog of a listener that accepts nobody is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def refusing() -> Address:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address: Address = sock.getsockname()
        return address


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def was_reset(sock: socket.socket, timeout: float = PATIENCE) -> bool:
    """Read to the end; true when the end is RST, false when it is FIN. TimeoutError after `timeout`."""
    sock.settimeout(timeout)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def ask(address: Address) -> str:
    """What a `Greeter` behind this address says."""
    with socket.create_connection(address, PATIENCE) as client:
        return receive_all(client).decode()


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the FIN."""
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def receive(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes, fewer if the stream ends before."""
    pieces = []
    while size and (piece := sock.recv(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def receive_digest(sock: socket.socket, size: int) -> str:
    """The digest of the next `size` bytes."""
    digest = hashlib.sha256()
    while size:
        piece = sock.recv(min(size, 1 << 20))
        if not piece:
            raise AssertionError(f"the stream ended {size} bytes early")
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Run a call in a thread that does not outlive the tests."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
