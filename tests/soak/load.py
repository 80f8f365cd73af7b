"""The load as the soak sees it: a process on the clients' host, and what it has told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import asdict
from typing import Any, Self

from tests.soak.client import PATIENCE, Plan
from tests.soak.judging import Failure
from tests.support.hosts import Host
from tests.support.programs import ROOT

FIRST = ("nice", "-n", "-10")  # who measures how long others take must not wait for a core itself


class Load:
    """`with Load(host, plan) as load: …`; what it counts is complete after `finish`."""

    def __init__(self, host: Host, plan: Plan) -> None:
        self._host, self._plan = host, plan
        self.failures: list[Failure] = []
        self.slow: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._process = self._host.popen(
            *FIRST,
            *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.soak.client"),
            json.dumps(asdict(self._plan)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def finish(self) -> None:
        """Begin nothing new, and wait for what is open; raises AssertionError if it ends with an error."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(2 * PATIENCE) == 0, "the load has failed"
        self._reader.join(10)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for what, value in json.loads(line).items():
                if what == "failure":
                    self.failures.append(Failure(**value))
                elif what == "slow":
                    self.slow.append(value)
                else:
                    self.counts = Counter(value)

    def counts_in_all(self) -> str:
        """How many exchanges went well so far, by load."""
        sums: Counter[str] = Counter()
        for name, count in self.counts.items():
            if name.endswith((" ok", " answers")):
                sums[name.split()[1]] += count
        return ", ".join(f"{count} {name}" for name, count in sorted(sums.items()))
