"""Say something once per change of state, however often it is found to be so."""

from __future__ import annotations

import logging


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
