"""One line an event on standard error, and never a reason to wait.

A blocked reader of our output (a full pipe, a stopped journal) must not hold up the work: lines pass through a bounded
queue to a thread of their own; what does not fit is counted and the count is said when there is room again.
As text, colourless `level logger: message`, to which the journal and Docker add the time; or as JSON, an object a line
with `ts` (RFC 3339, UTC, milliseconds), `level`, `logger` and `msg`.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
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


class OneObject(OneLine):
    """The same as a JSON object, whose strings are as printable."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        import json  # noqa: PLC0415 - simple-amb is small where nobody asks for this

        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "ts": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": super().format(record),
        }
        return json.dumps(told, ensure_ascii=False)


SHAPES: Mapping[str, Callable[[], logging.Formatter]] = {
    "text": lambda: OneLine("%(levelname)s %(name)s: %(message)s"),
    "json": lambda: OneObject("%(message)s"),
}


class NeverWaiting(logging.Handler):
    """Hands lines to a writing thread through a bounded queue; drops and counts when it is full.

    `shape` is a key of `SHAPES`. `dropped` are the lines lost since that was last said, `lost` all of them.
    """

    def __init__(self, stream: TextIO, shape: str = "text") -> None:
        super().__init__()
        self.setFormatter(SHAPES[shape]())
        self.dropped = 0
        self.lost = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line; never blocks."""
        try:
            if self.dropped:
                self._lines.put_nowait(self.format(_gap(self.dropped)) + "\n")
                self.dropped = 0
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._lose()

    def _lose(self) -> None:
        self.dropped += 1
        self.lost += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more; the work goes on
                self._lose()

    def close(self) -> None:
        """Write what is queued, within a second; closing twice is fine."""
        if self._thread.is_alive():
            try:
                self._lines.put_nowait(None)
                self._thread.join(1.0)
            except queue.Full:
                pass
        super().close()


def _gap(lines: int) -> logging.LogRecord:
    return logging.LogRecord("log", logging.WARNING, "", 0, "%d lines were dropped here", (lines,), None)


def dropped() -> int:
    """How many lines of this process's log were lost because nobody read them in time; a metric."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, NeverWaiting))


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

    HEADING = "what it tells"

    log: str = option(
        "--log",
        default="text",
        help="text, or json: an object a line",
        parse=choice(*SHAPES),
        env=["AMB_LOG"],
        metavar="SHAPE",
    )
    log_level: str = log_option("info")


def start_logging(level: str, shape: str = "text") -> None:
    """Log to standard error at `level` (a key of `LEVELS`) and in `shape` (of `SHAPES`) from now on."""
    logging.basicConfig(level=LEVELS[level], handlers=[NeverWaiting(sys.stderr, shape)], force=True)
