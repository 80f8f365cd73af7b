"""A real worker process with one service, told what to do over its real control socket."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Self

from ambnet.relay.limits import Limits
from ambnet.relay.protocol import (
    Applied,
    Configure,
    Drain,
    Endpoints,
    Event,
    Frames,
    InstanceStats,
    Message,
    Ready,
    RouteSetup,
    ServiceStats,
    Stats,
    encode,
    merge,
    udp_route,
)
from ambnet.relay.sockets import open_datagrams
from ambnet.relay.upstream import Endpoint
from tests.support.relay_peers import Address, Instance
from tests.support.waiting import eventually

SERVICE = "redis-A"
NOTHING_MORE: Mapping[str, Any] = {}


def endpoint(name: str, where: Instance | Address, *, weight: int = 1, takes_new: bool = True) -> Endpoint:
    """An endpoint as the parent describes it."""
    host, port = where.address if isinstance(where, Instance) else where
    return Endpoint(name, host, port, weight, takes_new)


def _listener(datagrams: bool) -> socket.socket:
    if datagrams:
        return open_datagrams("127.0.0.1", 0)[0]
    return socket.create_server(("127.0.0.1", 0), backlog=4096)


class RelayWorker:
    """`with RelayWorker(park=1.0) as relay:`; keyword arguments are those of `Limits`.

    `route` has more of its RouteSetup and `setup` more of its Configure; `datagrams` makes it carry UDP instead of TCP.
    """

    def __init__(
        self,
        *,
        policy: str = "round-robin",
        on_removal: float | None = None,
        prefix: Sequence[str] = (),
        listener: socket.socket | None = None,
        orphan_drain: float = 0.5,
        route: Mapping[str, Any] = NOTHING_MORE,
        setup: Mapping[str, Any] = NOTHING_MORE,
        datagrams: bool = False,
        **limits: Any,
    ) -> None:
        self.route = udp_route(SERVICE) if datagrams else SERVICE
        self.listener = listener.dup() if listener else _listener(datagrams)
        self.address: Address = self.listener.getsockname()[:2]
        self.control, theirs = socket.socketpair()
        self.messages: list[Message] = []
        self.ended = threading.Event()
        self._generation = 0
        inherited = (theirs.fileno(), self.listener.fileno())
        command = [*prefix, sys.executable, "-m", "ambnet.relay.worker", "--control", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=inherited, cwd=Path(__file__).parents[2])
        theirs.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        one = RouteSetup(self.route, (self.listener.fileno(),), policy, on_removal, **route)
        self.send(Configure((one,), Limits(**limits), orphan_drain, **setup))
        eventually(lambda: Ready() in self.messages, what="worker ready")

    def send(self, message: Message) -> None:
        """Tell the worker."""
        self.control.sendall(encode(message))

    def apply(self, *endpoints: Endpoint) -> None:
        """Make these the instances; returns when they are."""
        self._generation += 1
        self.send(Endpoints(self.route, self._generation, endpoints))
        eventually(lambda: Applied(self.route, self._generation) in self.messages, what="applied")

    def drain(self, seconds: float) -> None:
        """Ask it to end."""
        self.send(Drain(seconds))

    @property
    def connections(self) -> int:
        """How many clients it has, by its last report."""
        return self._stats().connections

    @property
    def service(self) -> ServiceStats:
        """The service's numbers, by its last report."""
        return self._stats().services[self.route]

    def instance(self, name: str) -> InstanceStats:
        """One instance's numbers, by its last report."""
        return self.service.instances.get(name, InstanceStats())

    def counter(self, name: str) -> int:
        """One counter, by its last report."""
        return self.service.counters[name]

    @property
    def log(self) -> list[str]:
        """What it said."""
        return [message.text for message in list(self.messages) if isinstance(message, Event)]

    def open_files(self) -> int:
        """How many descriptors it has."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def watched_files(self) -> int:
        """How many descriptors its epoll watches."""
        found = 0
        for info in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                found += info.read_text().count("tfd:")
        return found

    def cpu_seconds(self) -> float:
        """The processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def worked(self) -> float:
        """Seconds it was on a processor, to the nanosecond (schedstat, the first field)."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def resident_kib(self) -> int:
        """Its resident set."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.control.close()
        self.listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _stats(self) -> Stats:
        eventually(lambda: any(isinstance(message, Stats) for message in self.messages))
        return reduce(merge, (message for message in list(self.messages) if isinstance(message, Stats)))

    def _read(self) -> None:
        frames = Frames()
        try:
            while piece := self.control.recv(1 << 20):
                self.messages.extend(frames.feed(piece))
        except OSError:  # the control socket ends with the worker
            pass
        self.ended.set()
