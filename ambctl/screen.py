"""The whole terminal for a while: frames instead of lines, keys instead of words, and at the end all as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

# xterm's control sequences, which every terminal of the last thirty years knows.
ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Screen:
    """Within `with`: `show` frames, and `over` is set by q, Ctrl-C, a hang-up or SIGTERM; `code` is the exit code.

    `changed` is set when the terminal has another size. Make it inside the running loop.
    """

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.changed = asyncio.Event()
        self.code = 0
        self._loop = asyncio.get_running_loop()
        self._keyboard: tuple[int, list[Any]] | None = None

    def __enter__(self) -> Self:
        for number in ENDS:
            self._loop.add_signal_handler(number, self._end, 128 + number)
        self._loop.add_signal_handler(signal.SIGWINCH, self.changed.set)
        if sys.stdin.isatty():
            keyboard = sys.stdin.fileno()
            self._keyboard = keyboard, termios.tcgetattr(keyboard)
            tty.setcbreak(keyboard)
            self._loop.add_reader(keyboard, self._key, keyboard)
        sys.stdout.write(ENTER)
        sys.stdout.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (*ENDS, signal.SIGWINCH):
            self._loop.remove_signal_handler(number)
        if self._keyboard is not None:
            keyboard, before = self._keyboard
            self._loop.remove_reader(keyboard)
            _quietly(lambda: termios.tcsetattr(keyboard, termios.TCSADRAIN, before))
        _quietly(lambda: (sys.stdout.write(LEAVE), sys.stdout.flush()))

    def show(self, lines: Sequence[str]) -> None:
        """Replace what is shown; a line must not be wider than the terminal."""
        body = "\n".join(f"{line}{REST_OF_LINE}" for line in lines)
        sys.stdout.write(f"{HOME}{body}{REST_OF_SCREEN}")
        sys.stdout.flush()

    def _key(self, keyboard: int) -> None:
        try:
            typed = os.read(keyboard, 1024)
        except OSError:
            typed = b""
        if not typed:  # the terminal has gone
            self._loop.remove_reader(keyboard)
            self._end(128 + signal.SIGHUP)
        elif b"q" in typed or b"Q" in typed:
            self._end(0)

    def _end(self, code: int) -> None:
        self.code = code
        self.over.set()


def _quietly(act: Callable[[], object]) -> None:
    """Put something back where there may be no terminal any more."""
    try:
        act()
    except (OSError, termios.error, ValueError):
        return
