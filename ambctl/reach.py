"""From where an instance cannot be reached, as the proxies announce it. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ambcore.fleet import Announcement

Key = tuple[str, str]  # service and instance


@dataclass(frozen=True, slots=True, order=True)
class Sighting:
    """What one program, by its host and its own id, says of an instance that does not answer it."""

    since: str
    host: str
    program: str
    why: str


def sightings(programs: Iterable[Announcement]) -> dict[Key, tuple[Sighting, ...]]:
    """By instance, who cannot reach it; the longest first."""
    found: dict[Key, list[Sighting]] = {}
    for program in programs:
        for one in program.unreachable:
            sighting = Sighting(one.since, program.host, program.id, one.why)
            found.setdefault((one.service, one.instance), []).append(sighting)
    return {key: tuple(sorted(each)) for key, each in found.items()}
