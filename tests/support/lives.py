"""A server that says since when it listens, and a client that waits for it through whatever is between.

`python -c SERVER PORT DELAY`: listens after DELAY seconds, and answers each line with the moment since when it does, on
the monotonic clock, which all processes of a machine share, containers too. So whoever gets the answer knows how long
it has waited longer than it had to. To `again` it begins a new life instead.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass

SERVER = """
import os, signal, socketserver, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if line == b"again\\n":
                os.execv(sys.executable, sys.orig_argv)
            self.wfile.write(b"%.6f\\n" % since)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128
time.sleep(float(sys.argv[2]))
with Server(("0.0.0.0", int(sys.argv[1])), Answer) as server:
    since = time.monotonic()
    server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Since when the server listened, and when its answer came; both on the monotonic clock."""

    since: float
    came: float


def ask(host: str, port: int, seconds: float = 20.0, what: bytes = b"since when?") -> Answer | None:
    """One connection's answer; None if it was cut. Raises ConnectionRefusedError, and TimeoutError."""
    with contextlib.suppress(ConnectionResetError), socket.create_connection((host, port), seconds) as client:
        client.sendall(what + b"\n")
        with client.makefile("rb") as answers:
            if line := answers.readline():
                return Answer(float(line), time.monotonic())
    return None


def ask_until(host: str, port: int, after: float, seconds: float = 30.0) -> Answer:
    """Keep one connection waiting until a life answers that began after a moment. Raises as `ask` does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask(host, port, seconds)
        if answer is not None and answer.since > after:
            return answer
        if answer is not None:
            time.sleep(0.01)  # the life before still answers
    raise AssertionError(f"nobody who began after {after} answered within {seconds} s")
