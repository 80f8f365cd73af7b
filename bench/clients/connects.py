"""Clients that connect, send a PING, read the answer and close, and count honestly what went wrong and what was slow.

`python -m bench.clients.connects ADDRESS PORT COUNT AT_ONCE` keeps AT_ONCE connections under way until COUNT have
ended; `… COUNT AT_ONCE RATE` begins RATE a second whatever became of those before, as strangers do, AT_ONCE at most.
It says `begun` when the first is under way, and a line of JSON at the end: `errors` by reason, `seconds` in all,
`slow`, the moments on the monotonic clock at which connections that took longer than 1 s were begun, `worst` seconds.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import sys
import time
from collections import Counter

SLOW = 1.0  # seconds; a SYN is sent again after one (RFC 6298), so whoever needed a second SYN is slow
GIVE_UP = 12.0
PING, PONG = b"PING\r\n", b"+PONG\r\n"


class Clients:
    """All connections under way, by descriptor."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._epoll = select.epoll()
        self._begun: dict[int, tuple[float, socket.socket]] = {}  # oldest first
        self.ended = 0
        self.errors: Counter[str] = Counter()
        self.slow: list[float] = []
        self.worst = 0.0

    @property
    def under_way(self) -> int:
        """Connections that have begun and not ended."""
        return len(self._begun)

    def begin(self) -> None:
        """Start one connection."""
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._begun[client.fileno()] = (time.monotonic(), client)
        failed = client.connect_ex(self._address)
        if failed not in {0, errno.EINPROGRESS}:
            self._end(client.fileno(), errno.errorcode[failed])
            return
        self._epoll.register(client.fileno(), select.EPOLLOUT)

    def step(self, seconds: float) -> None:
        """Handle what happened; wait `seconds` for something at most."""
        for fd, _ in self._epoll.poll(seconds):
            client = self._begun[fd][1]
            try:
                self._go_on(fd, client)
            except OSError as error:
                self._end(fd, errno.errorcode.get(error.errno or 0, str(error)))
        self._give_up()

    def _go_on(self, fd: int, client: socket.socket) -> None:
        """Send the PING or read its answer, whichever is due; raises OSError, the connect's own included."""
        try:
            answer = client.recv(100)
        except BlockingIOError:
            client.send(PING)
            self._epoll.modify(fd, select.EPOLLIN)
            return
        self._end(fd, None if answer == PONG else "closed" if not answer else "answer")

    def _end(self, fd: int, error: str | None) -> None:
        started, client = self._begun.pop(fd)
        client.close()
        took = time.monotonic() - started
        self.ended += 1
        self.worst = max(self.worst, took)
        if error:
            self.errors[error] += 1
        if took > SLOW:
            self.slow.append(started)

    def _give_up(self) -> None:
        if self._begun:
            fd, (started, _) = next(iter(self._begun.items()))
            if time.monotonic() - started > GIVE_UP:
                self._end(fd, "timeout")


def run(clients: Clients, count: int, at_once: int, rate: float) -> float:
    """Begin and finish `count` connections; the seconds it took."""
    started = time.monotonic()
    begun = 0
    while clients.ended < count:
        due = min(count, int((time.monotonic() - started) * rate) + 1 if rate else count)
        while begun < due and clients.under_way < at_once:
            clients.begin()
            begun += 1
        clients.step(0.001 if begun < count else 0.1)
    return time.monotonic() - started


def main(address: str, port: str, count: str, at_once: str, rate: str = "0") -> None:
    """Run and report."""
    clients = Clients((address, int(port)))
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    seconds = run(clients, int(count), int(at_once), float(rate))
    outcome = {"errors": clients.errors, "seconds": seconds, "slow": clients.slow, "worst": clients.worst}
    sys.stdout.write(json.dumps(outcome) + os.linesep)


if __name__ == "__main__":
    main(*sys.argv[1:])
