"""A steady load that a host's own client makes, and what it met."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.hosts.machine import ROOT, Machine

RATE = 200  # new connections a second
FOLDER = "/opt/load"


@dataclass
class Load:
    """A load under way. After its block: `total`, and `failures` as (moment it was begun, why)."""

    process: subprocess.Popen[str]
    total: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)

    def more(self, connections: int) -> None:
        """Wait until so many more connections were served."""
        goal = self._served() + connections
        while self._served() < goal:
            pass

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
