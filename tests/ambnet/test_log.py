"""The log: one line an event, and never a reason to wait."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from ambnet.log import LEVELS, QUEUE_LINES, SHAPES, NeverWaiting, OneLine
from tests.support.waiting import eventually


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("source", logging.INFO, "", 0, message, arguments, None)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("redis-A: known", "redis-A: known"),
        ("größe 赤", "größe 赤"),
        ("a\nERROR source: forged", r"a\nERROR source: forged"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        ("\x00", r"\x00"),
    ],
)
def test_a_record_is_one_printable_line_whatever_it_quotes(message: str, line: str) -> None:
    formatted = OneLine("%(message)s").format(record("%s", message))
    assert formatted == line
    assert formatted.isprintable()


def test_a_traceback_is_one_line_too() -> None:
    try:
        int("why")
    except ValueError:
        failed = logging.LogRecord("source", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    line = OneLine("%(message)s").format(failed)
    assert line.isprintable()
    assert "ValueError: invalid literal" in line


@pytest.mark.parametrize(
    "message", ['a "quoted" \\ word', "größe 赤", "a\nb", "\x1b[2J\u202e\u2028", "\ud800", "\x00", "{}%s"]
)
def test_a_record_is_one_json_object_whose_message_is_the_line_of_text(message: str) -> None:
    formatted = SHAPES["json"]().format(record("%s", message))
    assert formatted.isprintable()
    told = json.loads(formatted)
    assert list(told) == ["ts", "level", "logger", "msg"]
    assert (told["level"], told["logger"]) == ("info", "source")
    assert told["msg"] == OneLine("%(message)s").format(record("%s", message))


def test_the_time_of_a_json_record_is_rfc_3339_in_utc_with_milliseconds() -> None:
    made = record("x")
    made.created, made.msecs = 1769860805.007, 7.4
    assert json.loads(SHAPES["json"]().format(made))["ts"] == "2026-01-31T12:00:05.007Z"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe: a descriptor to read, a stream to write."""
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    yield read, stream
    os.close(read)  # first, so that whoever still writes is let go
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def fill(stream: TextIO) -> int:
    """Fill a pipe to the brim; how many bytes that took."""
    descriptor, filled = stream.fileno(), 0
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(descriptor, b"." * 4096)
    os.set_blocking(descriptor, True)
    return filled


def test_C28_a_reader_that_stalls_holds_nobody_up_and_learns_what_it_missed(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    filled = fill(stream)
    handler = NeverWaiting(stream)
    handler.emit(record("0"))
    eventually(handler._lines.empty, 5, "the writing thread holds the first line, and is held up by the pipe")
    started = time.monotonic()
    for number in range(1, 3 * QUEUE_LINES):
        handler.emit(record("%d", number))
    assert time.monotonic() - started < 2.0

    kept, dropped = QUEUE_LINES + 1, 2 * QUEUE_LINES - 1
    text = ""
    while text.count("\n") < kept:
        text += os.read(reader, 65536).decode()
    handler.emit(record("after"))
    handler.close()
    text += os.read(reader, 65536).decode()
    lines = "".join(f"INFO source: {number}\n" for number in range(kept))
    assert text == "." * filled + lines + f"WARNING log: {dropped} lines were dropped here\nINFO source: after\n"


def test_what_was_dropped_is_counted_for_good_and_said_in_the_shape_of_the_log(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    filled = fill(stream)
    handler = NeverWaiting(stream, "json")
    for number in range(3 * QUEUE_LINES):
        handler.emit(record("%d", number))
    lost = handler.lost
    assert lost >= QUEUE_LINES  # the thread may have taken some meanwhile
    text = os.read(reader, filled).decode()
    while text.count("\n") < QUEUE_LINES:
        text += os.read(reader, 65536).decode()
    eventually(handler._lines.empty, 5, "all is written")
    handler.emit(record("after"))
    handler.close()
    text += os.read(reader, 1 << 20).decode()
    *_, gap, last = text.splitlines()
    assert json.loads(gap)["msg"] == f"{lost} lines were dropped here"
    assert json.loads(last)["msg"] == "after"
    assert handler.lost == lost


def test_closing_writes_what_is_queued_and_closing_twice_is_fine(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    handler = NeverWaiting(stream)
    for number in range(10):
        handler.emit(record("%d", number))
    handler.close()
    handler.close()
    assert os.read(reader, 65536).decode() == "".join(f"INFO source: {number}\n" for number in range(10))


def test_a_program_keeps_its_last_words() -> None:
    program = """
import logging
from ambnet.log import start_logging
start_logging("info")
log = logging.getLogger("x")
log.debug("not said")
log.info("first")
log.warning("last")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == "INFO x: first\nWARNING x: last\n"
    assert done.stdout == ""


def test_what_a_process_has_lost_of_its_log_can_be_asked() -> None:
    program = """
import logging, os, sys
from ambnet.log import dropped, start_logging
start_logging("info")
os.close(2)  # nobody reads any more
for number in range(3):
    logging.info("%d", number)
logging.getLogger().handlers[0].close()
print(dropped())
sys.stdout.flush()
os._exit(0)  # Python's own way out complains of a standard error that cannot be flushed
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert int(done.stdout) >= 3


def test_a_program_that_is_told_so_speaks_json_alone() -> None:
    program = """
import logging
from ambnet.log import dropped, start_logging
start_logging("info", "json")
log = logging.getLogger("x")
try:
    int("why")
except ValueError:
    log.exception("failed")
assert dropped() == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    told = json.loads(done.stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["ts"])
    assert told["msg"].startswith("failed\\nTraceback")


def test_the_levels_are_those_of_the_option() -> None:
    assert list(LEVELS) == ["debug", "info", "warning", "error"]
