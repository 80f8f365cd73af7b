"""A program on a terminal of its own: what it writes there, what is typed, and how the terminal is left."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tests.support.programs import ROOT, _clean_environment

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`with Terminal("ambctl", "ls", columns=60) as terminal`: it runs there, and is killed if it outlives the block.

    `written` is all that it wrote so far.
    """

    def __init__(
        self, module: str, *arguments: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None
    ) -> None:
        self._command = ["env", "--default-signal=INT", sys.executable, "-m", module, *arguments]
        self._env = {**_clean_environment(), "TERM": "xterm", **(env or {})}
        self._size = struct.pack("HHHH", lines, columns, 0, 0)
        self.written = ""

    def __enter__(self) -> Self:
        self._ours, self._theirs = os.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, self._size)
        self.settings: list[Any] = termios.tcgetattr(self._theirs)
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._env,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - keys become signals by it
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(10)
        if failure is not None:
            sys.stderr.write(f"--- written by {' '.join(self._command)}\n{self.written[-3000:]!r}\n")
        os.close(self._ours)
        os.close(self._theirs)

    @property
    def text(self) -> str:
        """What was written, without colours and movements, line ends as in files."""
        return CONTROL.sub("", self.written).replace("\r\n", "\n")

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Until this has been written; raises TimeoutError."""
        self.wait_until(lambda: text in self.written, seconds, f"it writes {text!r}")

    def type(self, keys: bytes) -> None:
        """As if somebody typed it."""
        os.write(self._ours, keys)

    def resize(self, columns: int, lines: int) -> None:
        """As if somebody pulled the window."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait(self, seconds: float = 20.0) -> int:
        """Until it has ended and all it wrote is read; its exit code."""
        self.wait_until(lambda: self.process.poll() is not None, seconds, "it ends")
        while self._read(0):
            pass
        return self.process.returncode

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal's own settings are those from before the program."""
        return termios.tcgetattr(self._theirs) == self.settings

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until it is so; raises TimeoutError, which says what was waited for."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} within {seconds} s; it wrote, in the end, {self.written[-1000:]!r}")
            self._read(0.05)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.written += os.read(self._ours, 65536).decode(errors="replace")
        return True
