"""A steady load that a host's own client makes, and what it met."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.hosts.machine import ROOT, Machine

RATE = 200  # new connections a second
PATIENCE = 60.0  # seconds for what should take two or three: restarts drain for up to 30
FOLDER = "/opt/load"


@dataclass
class Load:
    """A load under way. After its block: `total`, and `failures` as (moment it was begun, why)."""

    process: subprocess.Popen[str]
    total: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)

    def more(self, connections: int, seconds: float = PATIENCE) -> None:
        """Wait until so many more connections were served; raises AssertionError if that takes too long."""
        served = self._served()
        goal, deadline = served + connections, time.monotonic() + seconds
        while served < goal:
            assert time.monotonic() < deadline, f"{goal - served} of {connections} not served within {seconds} s"
            served = self._served()

    def _served(self) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client has ended"
        return int(line)

    def end(self) -> None:
        """Have what is under way finished, and take the result."""
        output, _ = self.process.communicate("", timeout=30)
        result = json.loads(output.splitlines()[-1])
        self.failures = [(started, why) for started, why in result["failures"]]
        self.total = result["served"] + len(self.failures)


@dataclass
class Strangers:
    """Clients of one host at a port of another. After its block: what they met, `errors` by reason."""

    process: subprocess.Popen[str]
    ended: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    worst: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        failed = ", ".join(f"{count} {why}" for why, count in self.errors.items()) or "0 failed"
        rate = self.ended / self.seconds
        return f"{failed} of {self.ended} connections, {rate:.0f} a second, slowest {self.worst:.2f} s"


def many_connections(machine: Machine) -> None:
    """Let a machine begin thousands of connections a second: with the usual settings a port rests for a minute."""
    for name, value in (("ip_local_port_range", "10000 65000"), ("tcp_tw_reuse", "1")):
        machine.write(f"/proc/sys/net/ipv4/{name}", value)


@contextlib.contextmanager
def strangers_from(machine: Machine, address: str, port: int, rate: int) -> Iterator[Strangers]:
    """PINGs from a machine to a port of another while the block runs, a connection each."""
    many_connections(machine)
    for path in ("bench/__init__.py", "bench/clients/__init__.py", "bench/clients/connects.py"):
        machine.write(f"{FOLDER}/{path}", (ROOT / path).read_text())
    machine.write(f"{FOLDER}/strangers.py", (ROOT / "tests/hosts/strangers.py").read_text())
    command = ["docker", "exec", "--interactive", machine.container, "python3", f"{FOLDER}/strangers.py"]
    process = subprocess.Popen(
        [*command, address, str(port), str(rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    load = Strangers(process)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield load
    finally:
        output, _ = process.communicate("", timeout=60)
        told = json.loads(output.splitlines()[-1])
        load.ended, load.errors, load.worst, load.seconds = (
            told[name] for name in ("ended", "errors", "worst", "seconds")
        )


@contextlib.contextmanager
def load_on(machine: Machine, port: int) -> Iterator[Load]:
    """PINGs to a port of a machine, from that machine, while the block runs; it begins when the load is on its way."""
    machine.write(f"{FOLDER}/bench/__init__.py", "")
    machine.write(f"{FOLDER}/bench/load.py", (ROOT / "bench/load.py").read_text())
    machine.write(f"{FOLDER}/client.py", (ROOT / "tests/hosts/client.py").read_text())
    command = ["docker", "exec", "--interactive", machine.container, "python3", f"{FOLDER}/client.py"]
    load = Load(
        subprocess.Popen([*command, str(port), str(RATE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    try:
        load.more(RATE)
        yield load
    finally:
        load.end()
