"""What simple-amb's tests start from: the program itself, as a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.programs import _clean_environment
from tests.support.relay_peers import Address, close_all
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


class Ambassador:
    """A running simple-amb on a port of 127.0.0.1, or without arguments on those that the environment names."""

    def __init__(self, arguments: tuple[str, ...], log: Path, environment: dict[str, str]) -> None:
        self.address: Address = ("127.0.0.1", free_port())
        self._log = log
        listen = f"127.0.0.1:{self.address[1]}" if arguments else "127.0.0.1"
        command = [sys.executable, "-m", "simple_amb", "--listen", listen, *arguments]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, cwd=ROOT, env=_clean_environment() | environment)
        ways = 1 if arguments else sum("_PORT_" in name for name in environment)
        eventually(lambda: self.log.count("forwarding") == ways, what=self.log)

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text()

    def resident_kib(self) -> int:
        """Its resident set."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()


Start = Callable[..., Ambassador]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start simple-amb with these arguments (keywords: its environment); it ends with the test."""
    with contextlib.ExitStack() as stack:
        stack.callback(close_all)

        def begin(*arguments: str, **environment: str) -> Ambassador:
            log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
            ambassador = Ambassador(arguments, log, environment)
            stack.callback(ambassador.close)
            return ambassador

        yield begin
