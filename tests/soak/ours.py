"""One of our programs on a host, through all its lives."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.hosts import Host
from tests.support.programs import Program, fetch, status
from tests.support.waiting import eventually

ADMIN = "127.0.0.1:9100"  # inside its host
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}  # as the units and the images have it


@dataclass
class Ours:
    """One of our programs on a host, through all its lives. `steady` ones are never ended by a fault.

    `handed` are listening sockets that outlive it, as a service manager keeps them.
    """

    name: str
    host: Host
    module: str
    arguments: Sequence[str]
    steady: bool
    handed: Sequence[socket.socket] = ()
    lives: list[Program] = field(default_factory=list)
    stopped: bool = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in self.handed:
            sock.close()
        for life in self.lives:
            life.__exit__(kind, failure if isinstance(failure, Exception) else None, trace)

    def start(self) -> None:
        """Begin a life."""
        prefix = (*self.host.prefix, "setpriv", "--pdeathsig", "KILL")
        self.lives.append(Program(self.module, *self.arguments, env=ENVIRONMENT, prefix=prefix, handed=self.handed))
        self.program.__enter__()

    @property
    def program(self) -> Program:
        """Its present life."""
        return self.lives[-1]

    @property
    def pid(self) -> int:
        """Of its present life."""
        return self.program.pid

    def kill(self) -> float:
        """SIGKILL; the moment."""
        moment = time.monotonic()
        self.program.kill()
        self.program.__exit__(None, None, None)
        return moment

    def terminate(self, seconds: float = 40.0) -> float:
        """SIGTERM, and its end; the moment of the signal. It has to end with 0."""
        moment = time.monotonic()
        code = self.program.stop(seconds)
        self.program.__exit__(None, None, None)
        assert code == 0, f"{self.name} ended with {code}: {self.program.log[-2000:]}"
        return moment

    def hand_over(self, seconds: float = 60.0) -> float:
        """Start the next life, which takes over from the present one; the moment. That one has to end with 0."""
        moment, before = time.monotonic(), self.program
        self.start()
        code = before.process.wait(seconds)
        before.__exit__(None, None, None)
        assert code == 0, f"{self.name} ended with {code}: {before.log[-2000:]}"
        return moment

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """SIGSTOP for the length of a block."""
        self.program.signal(signal.SIGSTOP)
        self.stopped = True
        try:
            yield
        finally:
            self.program.signal(signal.SIGCONT)
            self.stopped = False

    def status(self) -> dict[str, Any]:
        """Its status document; an AssertionError while it cannot be asked."""
        return self.host.call(lambda: status(ADMIN))

    def metrics(self) -> str:
        """Its metrics; an AssertionError while it cannot be asked."""
        return self.host.call(lambda: fetch(f"http://{ADMIN}/metrics")[1])

    def ready(self) -> bool:
        """Whether it says so."""
        return self.host.call(lambda: fetch(f"http://{ADMIN}/readyz")[0]) == 200

    def wait_ready(self, seconds: float = 90.0) -> None:
        """Until it says so."""
        eventually(self.ready, seconds, f"{self.name} is ready")

    def workers(self) -> list[int]:
        """The processes of its relay."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(OSError):
            return [int(pid) for pid in children.read_text().split() if _is_worker(int(pid))]
        return []


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"ambnet.relay.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def kept_sockets(host: Host, ports: Sequence[int]) -> list[socket.socket]:
    """Sockets of a service manager at these ports of a host, for streams and datagrams."""
    made = []
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with host.call(partial(socket.socket, socket.AF_INET, kind)) as low:
                # Away from the numbers at which a program is handed them.
                sock = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 100))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host.ipv4, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1)
            made.append(sock)
    return made
