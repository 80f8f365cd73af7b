"""Very many connections at a time, in processes of their own, so that who measures has the test's process to itself.

`python -m tests.support.many serve` listens, prints its port, and echoes; a connection that begins with `S` gets SIZE
bytes instead, as fast as it takes them. `… read|idle|burst HOST PORT COUNT` are its clients. Each prints a line of JSON
when all COUNT are connected and answered, and another with what it saw at the end:

    read    takes 1 KB a second on each connection, until its input ends
    idle    says nothing more, and waits until each is closed
    burst   begins all at once, and has one byte echoed by each
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from tests.support.programs import ROOT

SIZE = 100 * 1024 * 1024
PIECE = bytes(64 * 1024)
PATIENCE = 60.0  # seconds for all to be connected

Address = tuple[str, int]


class Many:
    """One of these processes. `said()` is its next line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._input: IO[str] = process.stdin
        self._output: IO[str] = process.stdout

    def said(self) -> Any:
        """Waits for it."""
        return json.loads(self._output.readline())

    def end(self) -> Any:
        """End its input; what it says to that."""
        self._input.close()
        return self.said()


@contextmanager
def many(*arguments: object, prefix: Iterable[str] = ()) -> Iterator[Many]:
    """A process with these arguments; gone at the end."""
    command = [*prefix, sys.executable, "-m", "tests.support.many", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Many(process)
        finally:
            process.kill()


def say(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


class Server:
    """Echoes, or sends very much."""

    def __init__(self, host: str = "127.0.0.1", port: str = "0") -> None:
        self._listener = socket.create_server((host, int(port)), backlog=4096)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._clients: dict[int, socket.socket] = {}
        self._left: dict[int, int] = {}  # bytes still to be sent, by descriptor
        say(self._listener.getsockname()[1])
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._clients and not self._serve(fd, self._clients[fd]):
                    self._left.pop(fd, None)
                    self._clients.pop(fd).close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients[client.fileno()] = client
                self._epoll.register(client, select.EPOLLIN)

    def _serve(self, fd: int, client: socket.socket) -> bool:
        """Whether it goes on."""
        try:
            if fd in self._left:
                self._left[fd] -= client.send(PIECE[: self._left[fd]])
                return self._left[fd] > 0
            if (piece := client.recv(4096)) == b"S":
                self._left[fd] = SIZE
                self._epoll.modify(fd, select.EPOLLOUT)
            elif piece:
                client.sendall(piece)
            return bool(piece)
        except BlockingIOError:
            return True
        except OSError:
            return False


def connected(address: Address, count: int, word: bytes, receive: int = 0) -> list[socket.socket]:
    """So many connections, each with its first byte of an answer; `receive` is the size of their kernels' buffers."""
    made = []
    for _ in range(count):
        client = socket.socket()
        if receive:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        client.settimeout(PATIENCE)
        client.connect(address)
        client.sendall(word)
        made.append(client)
    for client in made:
        if not client.recv(1):
            raise ConnectionError("closed")
    return made


def read(host: str, port: str, count: str) -> None:
    clients = connected((host, int(port)), int(count), b"S", 64 * 1024)
    say("connected")
    for client in clients:
        client.setblocking(False)
    taken = closed = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.monotonic()
        for client in clients:
            try:
                taken += len(client.recv(1024))
            except BlockingIOError:
                continue
            except OSError:
                closed += 1
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    say({"taken": taken, "closed": closed})


def idle(host: str, port: str, count: str) -> None:
    clients = connected((host, int(port)), int(count), b"?")
    talked = {}
    for client in clients:
        client.sendall(b"!")
        talked[client.fileno()] = time.monotonic()
        client.recv(1)
    say("connected")
    epoll, by_number, lived = select.epoll(), {client.fileno(): client for client in clients}, []
    for client in clients:
        epoll.register(client, select.EPOLLIN)
    while by_number:
        for fd, _ in epoll.poll():
            lived.append(time.monotonic() - talked[fd])
            by_number.pop(fd).close()
    say({"least": min(lived), "most": max(lived)})


def burst(host: str, port: str, count: str) -> None:
    epoll, began = select.epoll(), time.monotonic()
    under_way, errors = dict[int, socket.socket](), 0
    for _ in range(int(count)):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((host, int(port)))
        under_way[client.fileno()] = client
        epoll.register(client, select.EPOLLOUT | select.EPOLLONESHOT)
    say("begun")
    asked: set[int] = set()
    while under_way and time.monotonic() < began + PATIENCE:
        for fd, _ in epoll.poll(1):
            try:
                if fd not in asked:
                    under_way[fd].sendall(b"?")
                    asked.add(fd)
                    epoll.modify(fd, select.EPOLLIN)
                    continue
                errors += under_way[fd].recv(1) != b"?"
            except OSError:
                errors += 1
            under_way.pop(fd).close()
    say({"errors": errors + len(under_way), "seconds": time.monotonic() - began})


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    MODES: dict[str, Callable[..., object]] = {"serve": Server, "read": read, "idle": idle, "burst": burst}
    MODES[sys.argv[1]](*sys.argv[2:])
