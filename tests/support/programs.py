"""Our programs as real processes: start, read their log, ask their admin server, stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


class Program:
    """`Program("dynproxy", "redis-A", "6379")`: runs while its `with` block does; its log is kept in `lines`.

    `prefix` is a command that becomes the program in the end, as `nsenter` does. `handed` are sockets that it gets as
    systemd's socket activation gives them.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        handed: Sequence[socket.socket] = (),
    ) -> None:
        self.name = module
        self.arguments = arguments
        self.prefix = [*_handing_over(handed), *prefix]
        self._handed = [sock.fileno() for sock in handed]
        self.lines: list[str] = []
        self._env = {**_clean_environment(), **(env or {})}

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", self.name, *self.arguments],
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=self._handed,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(8)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        if self.process.stderr:
            self.process.stderr.close()
        if failure is not None:
            sys.stderr.write(f"--- log of {self.name} {' '.join(self.arguments)}\n" + "".join(self.lines))

    def _read(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError):
            for line in self.process.stderr:
                self.lines.append(line)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = 10.0) -> re.Match[str]:
        """The first match of a pattern in the log, waited for."""

        def look() -> re.Match[str] | None:
            if found := re.search(pattern, self.log):
                return found
            if self.process.poll() is not None and not self._reader.is_alive():
                raise RuntimeError(f"{self.name} ended with {self.process.returncode} before {pattern!r}:\n{self.log}")
            return None

        found = eventually(look, seconds, f"{self.name} says {pattern!r}; its log: {self.log[-2000:]}")
        assert found is not None
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM, then the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and gone on return."""
        self.process.kill()
        self.process.wait(10)


def _handing_over(sockets: Sequence[socket.socket]) -> list[str]:
    """A command that places the sockets from descriptor 3 on and becomes what follows it (man 3 sd_listen_fds)."""
    if not sockets:
        return []
    moves = "; ".join(f"exec {3 + number}<&{sock.fileno()} {sock.fileno()}<&-" for number, sock in enumerate(sockets))
    return ["bash", "-c", f'export LISTEN_PID=$$ LISTEN_FDS={len(sockets)}; {moves}; exec "$@"', "bash"]


def _clean_environment() -> dict[str, str]:
    """The environment without what would configure our programs or route their traffic elsewhere."""
    ours = re.compile(r"AMB_|DOCKER_|COREOS_|NOTIFY_SOCKET|.*_PORT_\d+_(TCP|UDP)|https?_proxy", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def rss_mib(pid: int) -> float:
    """Resident set of a process in MiB, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def fetch(url: str) -> tuple[int, str]:
    """(status, body) of a GET; raises AssertionError while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback only
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        raise AssertionError(f"{url}: {error}") from error


def status(admin: str) -> dict[str, Any]:
    """The status document of the program whose admin server is at `admin` (host:port)."""
    document: dict[str, Any] = json.loads(fetch(f"http://{admin}/status.json")[1])
    return document


@contextlib.contextmanager
def programs(*each: Program) -> Iterator[None]:
    """Several programs for the length of a block, stopped in reverse."""
    with contextlib.ExitStack() as stack:
        for program in each:
            stack.enter_context(program)
        yield
