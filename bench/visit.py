"""What every workload is made of: a subject at work between client and server, and the figures it gives."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from bench.hosts import SERVER, Scene, scene, wait_for
from bench.machine import busy_seconds
from bench.subjects import IPERF, REDIS, Running, Subject


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value."""

    workload: str
    metric: str
    unit: str
    value: float


# What a visit does, a step at a time: the figures it finds, and None before each piece of work.
Steps = Generator[Figure | None, None, None]


@dataclass(frozen=True, slots=True)
class Pieces:
    """So many pieces of work of so many seconds each."""

    count: int
    seconds: float

    @property
    def total(self) -> float:
        """Seconds of all of them."""
        return self.count * self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: the pieces of one request workload and of one bulk transfer; seconds of datagrams, and of a
    watch over an idle process; how many connections the fault workloads open, how many single writes the large table
    gets, and how long it is left alone before it counts as idle."""

    requests: Pieces
    bulk: Pieces
    datagrams: float
    idle: float
    connections: int
    writes: int
    settle: float


FULL = Effort(
    requests=Pieces(6, 0.4),
    bulk=Pieces(3, 1.0),
    datagrams=4.0,
    idle=60.0,
    connections=60_000,
    writes=200,
    settle=130.0,
)
QUICK = Effort(
    requests=Pieces(1, 0.3),
    bulk=Pieces(1, 1.0),
    datagrams=1.0,
    idle=5.0,
    connections=10_000,
    writes=20,
    settle=0.0,
)


@dataclass(frozen=True)
class Workload:
    """`measure` makes one visit to one subject; `subjects` are those it makes sense for.

    Of one that is `in_turns` the visits of a round go on side by side, a piece of each at a time: what the machine does
    for seconds or minutes is the same to all of them.
    """

    name: str
    subjects: tuple[str, ...]
    measure: Callable[[Subject, Effort], Steps]
    in_turns: bool = False
    quick: bool = False  # it is part of the short form
    rounds: int | None = None  # no more than so many: it takes long and hardly varies


@contextlib.contextmanager
def at_work(subject: Subject, *, delicate: bool = False) -> Iterator[tuple[Scene, Running]]:
    """A fresh scene with redis and iperf3 on the server, and the subject between; it answers a PING when this yields.

    Whoever uses iperf3 has to say `delicate`. Raises CannotRunError.
    """
    with scene(delicate=delicate) as made:
        serve(made)
        running = subject.start(made)
        wait_for(lambda: pongs(made, running.address), 20, f"{subject.name} answers a PING")
        yield made, running


def serve(made: Scene) -> None:
    """Start redis and iperf3 on the server."""
    made.server.start(
        *("redis-server", "--port", str(REDIS), "--bind", "0.0.0.0", "--protected-mode", "no"),  # noqa: S104
        *("--save", "", "--appendonly", "no", "--tcp-backlog", "8192", "--maxclients", "50000"),
    )
    made.server.start("iperf3", "--server", "--port", str(IPERF))
    wait_for(lambda: pongs(made, SERVER), 10, "redis answers")


def pongs(made: Scene, address: str, port: int = REDIS) -> bool:
    """Whether the client's PING is answered; raises OSError when it cannot connect."""
    with made.client.connect((address, port), 1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100) == b"+PONG\r\n"


@dataclass
class Meter:
    """`with Meter() as meter:` wall clock and machine-wide CPU seconds of a block, or of several together."""

    seconds: float = 0.0
    busy: float = 0.0

    def __enter__(self) -> Meter:
        self._started, self._busy = time.monotonic(), busy_seconds()
        return self

    def __exit__(self, *failure: object) -> None:
        self.seconds += time.monotonic() - self._started
        self.busy += busy_seconds() - self._busy
