"""An explanation as titles with findings for people, and as a JSON document. PURE; all of it is printable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ambcore.findings import Finding, Level
from ambcore.text import visible
from ambctl.explain.judge import Explanation

Block = tuple[str, tuple[Finding, ...]]  # a title, and what stands below it

WELL = "in all"
ENDINGS = {
    Level.GREEN: "all is well",
    Level.AMBER: "it is reached; somebody should know what stands above",
    Level.UNKNOWN: "nothing is wrong as far as could be seen from here",
}


def steps(told: Explanation) -> Iterator[Block]:
    """What was asked for, then every step, numbered, below the name of who says so."""
    yield f"{visible(told.name)}{_taken_for(told)}", ()
    numbers = iter(range(1, len(told.steps) + 1))
    for section in told.sections:
        yield visible(section.by), tuple(_numbered(next(numbers), step) for step in section.findings)


def _taken_for(told: Explanation) -> str:
    if not told.kinds:
        return ": nothing of that name is known"
    kinds = [f"an {kind}" if kind[0] in "aeiou" else f"a {kind}" for kind in told.kinds]
    return f", taken for {' and '.join(kinds)}"


def _numbered(number: int, step: Finding) -> Finding:
    return replace(step, topic=f"{number} {step.topic}")


def ending(told: Explanation) -> Block:
    """The cause once more; or that all is well, or what resembles a name that nobody knows."""
    if told.cause is not None:
        _, step = told.steps[told.cause - 1]
        return "", (replace(step, topic="the cause", says=f"{told.cause} {step.topic}: {step.says}"),)
    if told.kinds:
        return "", (Finding(told.level, WELL, ENDINGS[told.level]),)
    if not told.asked:
        return "", (Finding(Level.UNKNOWN, WELL, f"who knows {told.name} could not be asked"),)
    looked = "looked at every record, every program that is announced, and Docker here"
    near = f"names that resemble it: {', '.join(told.near)}" if told.near else "ambctl ls lists what is registered"
    return "", (Finding(Level.RED, WELL, f"nobody knows {told.name}: {looked}", near),)


def document(told: Explanation) -> dict[str, Any]:
    """The whole as JSON; `cause` is the number of the first red step, or null."""
    return {
        "name": told.name,
        "taken_for": list(told.kinds),
        "level": told.level.value,
        "cause": told.cause,
        "steps": [{"number": n, "by": by, **step.document()} for n, (by, step) in enumerate(told.steps, 1)],
        "near": list(told.near),
    }
