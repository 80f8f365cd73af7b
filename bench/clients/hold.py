"""`python -m bench.clients.hold ADDRESS PORT COUNT`: open connections, have one PING answered on each, hold them.

Says `held` when all are, or why not, and ends when its input does.
"""

from __future__ import annotations

import socket
import sys

AT_ONCE = 100  # PINGs on their way at a time


def hold(address: tuple[str, int], count: int) -> list[socket.socket]:
    """The connections; raises OSError."""
    held: list[socket.socket] = []
    while len(held) < count:
        fresh = [socket.create_connection(address, 30) for _ in range(min(AT_ONCE, count - len(held)))]
        for connection in fresh:
            connection.sendall(b"PING\r\n")
        for connection in fresh:
            if (answer := connection.recv(100)) != b"+PONG\r\n":
                raise ConnectionError(f"connection {len(held)} was answered {answer!r}")
        held += fresh
    return held


if __name__ == "__main__":
    try:
        connections = hold((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]))
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        sys.exit(1)
    sys.stdout.write("held\n")
    sys.stdout.flush()
    sys.stdin.read()
