"""PURE: everything that was found, in a line or two, and as a document."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from ambcore.findings import Finding, Level, worst

ORDER = (Level.RED, Level.AMBER, Level.UNKNOWN, Level.GREEN)


class Outcome(enum.Enum):
    """What a script wants to know."""

    WELL = "nothing is red"
    ILL = "something is red"
    UNSEEN = "nothing could be looked at"

    @classmethod
    def of(cls, found: Sequence[Finding]) -> Self:
        """Of all findings together."""
        levels = {finding.level for finding in found}
        if Level.RED in levels:
            return cls(cls.ILL)
        return cls(cls.UNSEEN if levels == {Level.UNKNOWN} else cls.WELL)


def cause(found: Iterable[Finding]) -> Finding | None:
    """The first red finding: what comes later may be its consequence."""
    return next((finding for finding in found if finding.level is Level.RED), None)


def summary(found: Sequence[Finding]) -> Iterator[Finding]:
    """How many of each, and the cause if something is red."""
    counts = Counter(finding.level for finding in found)
    numbers = ", ".join(f"{counts[level]} {level.value}" for level in ORDER if counts[level])
    yield Finding(worst(found), "in all", numbers or "nothing was looked at")
    if first := cause(found):
        yield Finding(Level.RED, "the cause", f"{first.topic}: {first.says}", first.do)


def document(checks: Sequence[tuple[str, Sequence[Finding]]]) -> dict[str, Any]:
    """As JSON: the worst level, how many of each, the cause or null, and what each check found."""
    found = [finding for _, each in checks for finding in each]
    counts = Counter(finding.level for finding in found)
    first = cause(found)
    return {
        "level": worst(found).value,
        "counts": {level.value: counts[level] for level in ORDER},
        "cause": first.document() if first else None,
        "checks": [{"check": name, "findings": [one.document() for one in each]} for name, each in checks],
    }
