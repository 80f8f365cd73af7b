"""Servers that say who they are: which address a client's connection or datagram came to."""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import Self

from tests.support.hosts import PATIENCE, Address, Host

CLOSE, RESET = b"close yours first", b"reset it"  # what a server does when a client says so


class _Answer(socketserver.BaseRequestHandler):
    """Says the address that the connection came to and where from, one line each; then gives back what it gets."""

    def handle(self) -> None:
        self.request.sendall(b"%s\n%s\n" % (_plain(self.request.getsockname()), _plain(self.request.getpeername())))
        while (data := self.request.recv(65536)) and data != CLOSE:
            if data == RESET:
                _reset_on_close(self.request)
                break
            self.request.sendall(data)


def _plain(address: tuple[str, int]) -> bytes:
    return address[0].removeprefix("::ffff:").encode()


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class _Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        self.close_request(request)  # the default's shutdown() would send FIN where a reset is asked for

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what tests do."""


class Answering:
    """`with Answering(host, 8000)`: a TCP server at every address of a host, IPv4 and IPv6, in a thread."""

    def __init__(self, host: Host, port: int) -> None:
        self._server = host.call(lambda: _Server(("::", port), _Answer))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Conversation:
    """A client's connection to an `Answering`: `at` is the address it came to, `seen_from` the client as seen there."""

    def __init__(self, client: Host, to: Address, source: Address | None = None) -> None:
        self.socket = client.connect(to, source)
        self._lines = self.socket.makefile("rb")
        try:
            self.at, self.seen_from = self._line(), self._line()
        except BaseException:
            self.close()
            raise

    def _line(self) -> str:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("closed before its answer")
        return line.decode().rstrip()

    def echoes(self, data: bytes = b"still here") -> bool:
        """Whether the other side gives back what it gets."""
        self.socket.sendall(data)
        return self._lines.read(len(data)) == data

    def order(self, what: bytes) -> bytes:
        """Have the server do CLOSE or RESET; what the client reads then, b"" at the end of the stream."""
        self.socket.sendall(what)
        return self._lines.read()

    def reset(self) -> None:
        """End it with a reset."""
        _reset_on_close(self.socket)
        self.close()

    def close(self) -> None:
        """End it."""
        self._lines.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def answered_by(client: Host, to: Address, source: Address | None = None) -> str:
    """The address at which a new connection of the client's is answered."""
    with Conversation(client, to, source) as conversation:
        return conversation.at


class Datagrams:
    """`with Datagrams(host, ("10.78.0.1", 53), …)`: UDP servers that answer with their own address, in threads."""

    def __init__(self, host: Host, *at: Address) -> None:
        self._sockets = {host.datagrams(address): address[0].encode() for address in at}
        self._threads = [threading.Thread(target=self._answer, args=pair) for pair in self._sockets.items()]

    @staticmethod
    def _answer(made: socket.socket, name: bytes) -> None:
        made.settimeout(None)
        while True:
            _, client = made.recvfrom(2048)
            if client == made.getsockname():
                return
            made.sendto(name, client)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        for made in self._sockets:
            made.sendto(b"", made.getsockname())  # from itself: the word to stop
        for thread in self._threads:
            thread.join(PATIENCE)
        for made in self._sockets:
            made.close()
