"""Plain UDP sockets that play client and instance."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from tests.support.relay_peers import PATIENCE, Address, in_thread
from tests.support.waiting import eventually

LARGEST = 65507  # bytes that a UDP datagram over IPv4 carries at most
SIZES = (0, 1, 1472, 9000, LARGEST)


def pattern(size: int) -> bytes:
    """Bytes that show if some are missing or moved."""
    return bytes(number * number % 251 for number in range(size))


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def udp_client(address: Address, timeout: float = PATIENCE) -> socket.socket:
    """A connected socket: it takes answers from `address` alone."""
    client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(timeout)
    client.connect(address)
    return client


def closed_port() -> Address:
    """An address at which nobody takes datagrams."""
    with udp_socket() as sock:
        address: Address = sock.getsockname()
        return address


class UdpInstance:
    """A bound socket whose datagrams the test takes by hand: `with UdpInstance() as one: one.receive()`."""

    def __init__(self, port: int = 0) -> None:
        self.sock = udp_socket(port=port)
        self.address: Address = self.sock.getsockname()

    def receive(self) -> tuple[bytes, Address]:
        """The next datagram and who sent it."""
        data, sender = self.sock.recvfrom(1 << 17)
        return data, sender

    def close(self) -> None:
        """From now on it refuses."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class Answerer(UdpInstance):
    """Answers every datagram in a thread: by default with its own name."""

    def __init__(self, name: str, port: int = 0, answer: Callable[[bytes], bytes] | None = None) -> None:
        super().__init__(port)
        self.name = name
        self._answer = answer or (lambda _: name.encode())
        self._stopped = threading.Event()
        self.sock.settimeout(0.05)
        self._thread = in_thread(self._serve)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                data, sender = self.receive()
            except TimeoutError:
                continue
            self.sock.sendto(self._answer(data), sender)

    def close(self) -> None:
        """Stop answering: from now on it refuses."""
        self._stopped.set()
        self._thread.join()
        super().close()


def echo() -> Answerer:
    """Gives back what it gets."""
    return Answerer("echo", answer=lambda data: data)


def ask(client: socket.socket, question: bytes = b"who?") -> str:
    """What a connected client is answered."""
    client.send(question)
    return client.recv(1 << 17).decode()


def ask_until(client: socket.socket, wanted: Iterable[str], seconds: float = 10.0) -> str:
    """Ask until one of these answers; answers that do not come are not waited for long."""
    client.settimeout(0.2)
    names = set(wanted)

    def answered() -> str:
        try:
            name = ask(client)
        except (TimeoutError, ConnectionRefusedError):
            return ""
        return name if name in names else ""

    found = eventually(answered, seconds, f"an answer of {sorted(names)}")
    client.settimeout(PATIENCE)
    return found


@contextmanager
def clients(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """So many connected clients."""
    made = [udp_client(address) for _ in range(count)]
    try:
        yield made
    finally:
        for client in made:
            client.close()
