"""A UDP server that can be killed: says who it is when asked `who?`, hears FLOOD in silence, gives back all else.

`python -m tests.support.udp_server NAME HOST PORT` prints its port and serves until it is ended.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Self

WHO, FLOOD = b"who?", b"one of many"
BUFFER = 4 * 1024 * 1024
SO_RCVBUFFORCE = 33  # asm-generic/socket.h


class UdpServer:
    """The server as a process of its own. `prefix` is a command that becomes it in the end, as `nsenter` does."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0, prefix: Sequence[str] = ()) -> None:
        self.name = name
        self.host, self.port = host, port
        self._prefix = prefix

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return once it serves."""
        self.process = subprocess.Popen(
            [*self._prefix, sys.executable, "-m", "tests.support.udp_server", self.name, self.host, str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL, and gone on return. Killing a dead one is fine."""
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def serve(name: bytes, host: str, port: int) -> None:
    """Answer for ever."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    sock.bind((host, port))
    sys.stdout.write(f"{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        data, client = sock.recvfrom(1 << 17)
        if data != FLOOD:
            sock.sendto(name if data == WHO else data, client)


if __name__ == "__main__":
    serve(sys.argv[1].encode(), sys.argv[2], int(sys.argv[3]))
