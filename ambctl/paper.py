"""What the output is written on: a terminal of some width, or a pipe. Pure.

On a terminal lines are as wide as it, states have a mark and a colour. Into a pipe or a file goes plain text, each
record whole and in a line of its own. Colours are on or off by --color, then NO_COLOR (no-color.org), then FORCE_COLOR
and CLICOLOR_FORCE, then TERM=dumb and CLICOLOR=0 (bixense.com/clicolors), else on where a terminal is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ambcore.findings import Level

MARKS: Mapping[Level, str] = {Level.GREEN: "●", Level.AMBER: "▲", Level.RED: "✖", Level.UNKNOWN: "?"}
PLAIN_MARKS: Mapping[Level, str] = {Level.GREEN: "+", Level.AMBER: "!", Level.RED: "x", Level.UNKNOWN: "?"}
NARROWEST = 20  # columns; what calls itself narrower is wrapped by itself


@dataclass(frozen=True, slots=True)
class Paper:
    """`width` in columns, None for no limit; `marks` is None where states are words alone."""

    width: int | None = None
    color: bool = False
    marks: Mapping[Level, str] | None = None

    @property
    def plain(self) -> bool:
        """Whether programs read it."""
        return self.width is None and not self.color


def paper(when: str, environ: Mapping[str, str], *, terminal: bool, columns: int, encoding: str) -> Paper:
    """The paper for `--color`, an environment, and a stream that is a terminal `columns` wide or is none."""
    color = _color(when, environ, terminal)
    marks = (MARKS if _can_write(encoding) else PLAIN_MARKS) if terminal or color else None
    return Paper(max(columns, NARROWEST) if terminal else None, color, marks)


def _color(when: str, environ: Mapping[str, str], terminal: bool) -> bool:
    if when != "auto":
        return when == "always"
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return terminal and environ.get("TERM") != "dumb" and environ.get("CLICOLOR") != "0"


def _can_write(encoding: str) -> bool:
    try:
        "".join(MARKS.values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
