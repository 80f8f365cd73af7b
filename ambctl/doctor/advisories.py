"""PURE: etcd's versions that are known for something, by the names under which that was published.

The numbers of fixed releases are those of etcd's own advisories and change logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Advisory:
    """`fixed` has the first good patch of each line of releases; older lines have none, newer ones need none.

    With `guards`, it concerns who may do what, which is open to everybody anyway where authentication is off.
    """

    name: str
    harm: str
    fixed: Mapping[tuple[int, int], int]
    guards: bool = False

    def concerns(self, version: Version) -> bool:
        """Whether a member of this version has it."""
        line, patch = version[:2], version[2]
        if line in self.fixed:
            return patch < self.fixed[line]
        return line < max(self.fixed)


ADVISORIES = (
    Advisory(
        "CVE-2026-33413",
        "some of its calls pass by the permissions",
        {(3, 4): 42, (3, 5): 28, (3, 6): 9},
        guards=True,
    ),
    Advisory(
        "CVE-2026-33343",
        "nested transactions pass by the permissions",
        {(3, 4): 42, (3, 5): 28, (3, 6): 9},
        guards=True,
    ),
    Advisory(
        "GHSA-xg4h-6gfc-h4m8",
        "who may watch one key gets every later one, too",
        {(3, 5): 33, (3, 6): 14, (3, 7): 1},
        guards=True,
    ),
    Advisory("etcd #15247", "a slow disk can end every lease at once", {(3, 4): 31, (3, 5): 13}),
    Advisory("its change log", "a watch may lose events", {(3, 4): 36, (3, 5): 18}),
    Advisory("its change log", "a lease that has ended may be renewed in vain", {(3, 4): 38, (3, 5): 23, (3, 6): 5}),
)


def parse_version(text: str) -> Version | None:
    """`3.5.16` or `3.6.0-rc.1` as numbers; None for anything else."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-+].*)?", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def known_for(version: Version) -> tuple[Advisory, ...]:
    """What a member of this version has."""
    return tuple(each for each in ADVISORIES if each.concerns(version))


def cure(version: Version) -> Version:
    """The nearest release that is known for nothing."""
    fixed = sorted((*line, patch) for each in ADVISORIES for line, patch in each.fixed.items())
    return next((release for release in fixed if release >= version and not known_for(release)), version)
