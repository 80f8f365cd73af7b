"""What somebody who looks for a fault is told: one line a question, how it stands, and what to do about it.

Every program answers `explain` with a sequence of these, in the order in which one thing depends on another, and ambctl
puts them together: the first red one is the cause, what follows may only be its consequence.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

from ambcore.text import visible

MAX_TEXT = 1000  # characters of a line that another process sends


class Level(enum.StrEnum):
    """How it stands with what was looked at."""

    GREEN = "green"
    AMBER = "amber"  # serves, but somebody should know
    RED = "red"  # does not serve; somebody has to act
    UNKNOWN = "unknown"  # could not be looked at from here, which says nothing about it


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `topic` is what was looked at, in a word or two, `says` how it was found, `do` what to do, empty
    unless the level asks for something; all three are printable.
    """

    level: Level
    topic: str
    says: str
    do: str = ""

    def __post_init__(self) -> None:
        for name in ("topic", "says", "do"):
            object.__setattr__(self, name, visible(getattr(self, name)))

    def document(self) -> dict[str, str]:
        """As it stands in JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: object) -> Self:
        """The inverse of `document`, of whatever another process sent; raises ValueError."""
        fields = document if isinstance(document, Mapping) else {}
        level, *texts = (fields.get(name, "") for name in ("level", "topic", "says", "do"))
        if not all(isinstance(text, str) for text in (level, *texts)) or level not in set(Level):
            raise ValueError(f"not a finding: {str(document)[:MAX_TEXT]}")
        return cls(Level(level), *(text[:MAX_TEXT] for text in texts))


def worst(findings: Iterable[Finding]) -> Level:
    """Red before amber before unknown before green; green for none at all."""
    found = {finding.level for finding in findings}
    return next((level for level in (Level.RED, Level.AMBER, Level.UNKNOWN) if level in found), Level.GREEN)
