"""Whether a program has nothing to say."""

from __future__ import annotations

import time

from tests.support.programs import Program
from tests.support.waiting import PAUSE, eventually


def becomes_silent(program: Program, seconds: float, within: float = 60.0) -> None:
    """Wait until a program has logged nothing for so long, which an idle one does soon."""
    said, since = len(program.lines), time.monotonic()

    def quiet() -> bool:
        nonlocal said, since
        if len(program.lines) > said:
            said, since = len(program.lines), time.monotonic()
        return time.monotonic() - since >= seconds + PAUSE

    eventually(quiet, within, f"{program.name} says nothing for {seconds} s; its log: {program.log[-1000:]}")
