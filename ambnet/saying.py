"""Say something once per change of state, however often it is found to be so; and of many lines only so many."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LINES, PERIOD = 1000, 10.0  # lines in so many seconds: as many as the log keeps for a reader who is late


class Saying:
    """A logger that remembers the state it last spoke about."""

    def __init__(self, log: logging.Logger, state: str = "") -> None:
        self._log = log
        self._state = state

    def say(self, state: str, level: int, text: str, *arguments: object) -> None:
        """One line, unless the last one was about this `state`, too."""
        if state != self._state:
            self._state = state
            self._log.log(level, text, *arguments)


class Ration:
    """A logger for lines whose number others decide: LINES in PERIOD seconds, then their number alone."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._since = clock()
        self._lines = self.left_out = 0

    def say(self, level: int, text: str, *arguments: object) -> None:
        """One line, or none if there were too many lately."""
        if self._clock() - self._since >= PERIOD:
            if self.left_out:
                self._log.warning("%d lines were left out", self.left_out)
            self._since = self._clock()
            self._lines = self.left_out = 0
        self._lines += 1
        if self._lines <= LINES:
            self._log.log(level, text, *arguments)
            return
        if not self.left_out:
            self._log.warning("more than %d lines in %g s: the rest is left out and counted", LINES, PERIOD)
        self.left_out += 1
