"""One line an event on standard error, and never a reason to wait.

A blocked reader of our output (a full pipe, a stopped journal) must not hold up the work: lines pass through a bounded
queue to a thread of their own; what does not fit is counted and the count is said when there is room again.
Colourless `level logger: message`; the journal and Docker add the time.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from dataclasses import dataclass
from typing import Any, TextIO

from ambcore.text import visible
from ambnet.options import choice, option

QUEUE_LINES = 1000  # about 200 KiB at worst; a burst longer than this is no longer read by anyone

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class OneLine(logging.Formatter):
    """Control characters, line ends included, are written as escapes: a record is one line whatever it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one printable line."""
        return visible(super().format(record))


class NeverWaiting(logging.Handler):
    """Hands lines to a writing thread through a bounded queue; drops and counts when it is full."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.setFormatter(OneLine("%(levelname)s %(name)s: %(message)s"))
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line; never blocks."""
        try:
            if self.dropped:
                self._lines.put_nowait(f"WARNING log: {self.dropped} lines were dropped here\n")
                self.dropped = 0
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more; the work goes on
                self.dropped += 1

    def close(self) -> None:
        """Write what is queued, within a second; closing twice is fine."""
        if self._thread.is_alive():
            try:
                self._lines.put_nowait(None)
                self._thread.join(1.0)
            except queue.Full:
                pass
        super().close()


def log_option(default: str) -> Any:
    """The field of an options class that says how much a program says."""
    return option(
        "--log-level",
        default=default,
        help=f"one of {', '.join(LEVELS)}",
        parse=choice(*LEVELS),
        env=["AMB_LOG_LEVEL"],
        metavar="LEVEL",
    )


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What every long-running program says: each change, once."""

    log_level: str = log_option("info")


def start_logging(level: str) -> None:
    """Log to standard error at `level` (a key of `LEVELS`) from now on."""
    logging.basicConfig(level=LEVELS[level], handlers=[NeverWaiting(sys.stderr)], force=True)
