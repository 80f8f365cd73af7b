"""Instances that a proxy's checks cannot reach, as it tells the fleet in its announcement.

That an instance answers is not true or false but a matter of where one stands: a firewall, a route or an overlay
network may be down between two hosts only. So each proxy says what it cannot reach, since when and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ambcore.model import MAX_INSTANCE, MAX_SERVICE, check_name

MOST, BYTES = 20, 1536  # instances in one announcement, and what they may take of its 8 KiB
MAX_WHY = 80  # characters; an error of the system has some 30

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Unreachable:
    """One instance that does not answer: since when (RFC 3339 with a Z), and what was seen. Raises ValueError."""

    since: str
    service: str
    instance: str
    why: str

    def __post_init__(self) -> None:
        check_name("service", self.service, MAX_SERVICE)
        check_name("instance", self.instance, MAX_INSTANCE)
        if not MOMENT.fullmatch(self.since):
            raise ValueError(f"a moment looks like 2026-01-31T12:00:00Z, not {self.since[:40]!r}")
        if len(self.why) > MAX_WHY or not self.why.isprintable():
            raise ValueError(f"a reason is printable text of at most {MAX_WHY} characters")

    def document(self) -> dict[str, str]:
        """As it stands in an announcement."""
        return {"service": self.service, "instance": self.instance, "why": self.why, "since": self.since}


def fitting(found: Iterable[Unreachable]) -> tuple[tuple[Unreachable, ...], int]:
    """As many of these, the longest unreachable first, as an announcement has room for, and how many it has not."""
    every, room = sorted(found), BYTES
    for count, one in enumerate(every):
        room -= len(json.dumps(one.document())) + len(", ")
        if room < 0 or count == MOST:
            return tuple(every[:count]), len(every) - count
    return tuple(every), 0


def read(value: object) -> tuple[Unreachable, ...]:
    """Those of an announcement that can be read, MOST at most. What cannot be read says nothing: it takes nothing from
    the rest of the announcement.
    """
    found = []
    for entry in value[:MOST] if isinstance(value, list) else ():
        fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
        texts = [fields.get(name) for name in ("since", "service", "instance", "why")]
        try:
            found.append(Unreachable(*(text for text in texts if isinstance(text, str))))
        except (ValueError, TypeError):  # TypeError: some are missing, or are no texts
            continue
    return tuple(found)
