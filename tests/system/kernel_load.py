"""Strangers who begin connections at a steady rate, whatever became of those before, until they are told to stop.

`python -m tests.system.kernel_load ADDRESS PORT RATE MOST` says `begun` with the first, and goes on until its input
ends. Then it waits for those under way and says a line of JSON with what it counted, as `bench.clients.connects` does.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Self

from bench.clients.connects import Clients
from tests.support.hosts import Address, Host
from tests.support.programs import ROOT

STEP = 0.002  # seconds it waits for something to happen
MOST = 2000  # strangers under way at once, by default: where the machine cannot keep up they come later


@dataclass
class Outcome:
    """What the strangers saw. `slow` are the moments at which connections of more than a second were begun."""

    ended: int
    errors: dict[str, int]
    slow: list[float]
    worst: float


class Load:
    """`with Load(client, to, 200) as load: …`; then `load.outcome` is complete."""

    def __init__(self, client: Host, to: Address, rate: int, most: int = MOST) -> None:
        self._client = client
        self._arguments = (to[0], str(to[1]), str(rate), str(most))
        self.outcome = Outcome(0, {}, [], 0.0)

    def __enter__(self) -> Self:
        self.process = self._client.popen(
            *(sys.executable, "-m", "tests.system.kernel_load", *self._arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            said, _ = self.process.communicate(timeout=30)
            self.outcome = Outcome(**json.loads(said))
        finally:
            self.process.kill()
            self.process.wait(10)


def main(address: str, port: str, rate: str, most: str) -> None:
    """Run until the input ends, and report."""
    clients = Clients((address, int(port)))
    clients.begin()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    started, begun = time.monotonic(), 1
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = int((time.monotonic() - started) * float(rate)) + 1
        now = min(due - begun, int(most) - clients.under_way)
        for _ in range(now):
            clients.begin()
        begun += max(0, now)
        clients.step(STEP)
    while clients.under_way:
        clients.step(0.1)
    counted = {"ended": clients.ended, "errors": clients.errors, "slow": clients.slow, "worst": clients.worst}
    sys.stdout.write(json.dumps(counted))


if __name__ == "__main__":
    main(*sys.argv[1:])
