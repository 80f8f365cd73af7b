"""A server that can be killed: answers each line of a client with its own name.

`python -m tests.support.named_server NAME HOST PORT` prints its port and serves until it is ended.
"""

from __future__ import annotations

import socketserver
import subprocess
import sys
from collections.abc import Sequence
from typing import Self


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for _ in self.rfile:
            self.wfile.write(sys.argv[1].encode() + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024


class NamedServer:
    """The server as a process of its own. `prefix` is a command that becomes it in the end, as `nsenter` does."""

    def __init__(self, name: str, port: int = 0, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self.name = name
        self.host, self.port = host, port
        self._prefix = prefix

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*self._prefix, sys.executable, "-m", "tests.support.named_server", self.name, self.host, str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


if __name__ == "__main__":
    with _Server((sys.argv[2], int(sys.argv[3])), _Answer) as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
