"""A shell that a reader types a page's blocks into: what one sets, the next ones find."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from tests.docs.pages import Block, fits
from tests.support.waiting import eventually

SECONDS = 120.0  # for a block to print what it should: containers start in any order, and two cores have much to do
PATIENCE = 900.0  # for any block at all: one that hangs must not hold up whoever waits for the test
END = "-- the block has ended --"


class Shell:
    """One bash. `replaced`: what pages say -> what is real here."""

    def __init__(self, process: subprocess.Popen[str], complaints: IO[str], replaced: Mapping[str, str]) -> None:
        self.replaced = dict(replaced)
        self._process = process
        self._complaints = complaints

    def type(self, commands: str) -> str:
        """What a block prints. Raises AssertionError with its complaints when a command of it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = os.fstat(self._complaints.fileno()).st_size
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        self._process.stdin.write(f"set -e -o pipefail\n{commands}\nset +e\necho '{END}'\n")
        self._process.stdin.flush()
        printed = ""
        try:
            for line in self._process.stdout:
                if line == f"{END}\n":
                    return printed
                printed += line
        finally:
            patience.cancel()
        self._complaints.seek(before)
        raise AssertionError(f"it failed:\n{commands}\n{printed}{self._complaints.read()}")

    def perform(self, block: Block) -> None:
        """Do what a block says. One that prints something is asked again until it does, as a person would."""
        if block.printed is None:
            self.type(block.commands)
            return
        expected = block.printed

        def prints() -> bool:
            # In a shell of its own, whose failure ends nothing: it may be asked too early, or be meant to fail.
            printed = self.type(f"(\n{block.commands}) || true")
            assert fits(printed, expected, self.replaced), f"it prints\n{printed}"
            return True

        eventually(prints, SECONDS, block.commands)


@contextlib.contextmanager
def shell(
    command: Sequence[str] = ("bash",), *, replaced: Mapping[str, str], cwd: str | None = None
) -> Iterator[Shell]:
    """A shell by `command`, which reads its input; it ends with the body."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, cwd=cwd
        )
        try:
            yield Shell(process, complaints, replaced)
        finally:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.kill()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
