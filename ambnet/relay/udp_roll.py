"""The UDP clients that a relay knows, in the order in which they were last heard of, and who is forgotten first. Pure.

Anybody can send datagrams in a thousand names that are not his, but the answers do not come to him. So clients are
newcomers until they go on after an answer, and where it is crowded newcomers are forgotten first: a flood of them costs
those who talk nothing. The kernel's connection tracking does the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

# The part of the roll that newcomers may take from regulars: as many as come while an answer is on its way.
SHARE: Final = 8


class Member(Protocol):
    """What the roll has to know of a client: when it was last heard of, how long it may be silent, where it stands."""

    seen: float
    idle: float
    among: OrderedDict[Any, None]


M = TypeVar("M", bound=Member)


class Roll(Generic[M]):
    """Members in two files, newcomers and regulars, each with the longest silent first.

    Whoever hears of a member sets its `seen` and does `member.among.move_to_end(member)`. No member's `idle` may be
    below `shortest`.
    """

    __slots__ = ("newcomers", "regulars", "shortest")

    def __init__(self) -> None:
        self.newcomers: OrderedDict[M, None] = OrderedDict()
        self.regulars: OrderedDict[M, None] = OrderedDict()
        self.shortest = float("inf")

    def __len__(self) -> int:
        return len(self.newcomers) + len(self.regulars)

    def __iter__(self) -> Iterator[M]:
        yield from self.newcomers
        yield from self.regulars

    def add(self, member: M) -> None:
        """One more, heard of just now."""
        self._stand(member, self.newcomers)

    def trust(self, member: M) -> None:
        """It used an answer: a regular from now on, heard of just now."""
        del self.newcomers[member]
        self._stand(member, self.regulars)

    def remove(self, member: M) -> None:
        """It is forgotten."""
        del member.among[member]

    def first_to_go(self, most: int) -> M | None:
        """Whom to forget when no more than `most` may be known; None if nobody is."""
        crowded = len(self.newcomers) * SHARE > most
        for file in (self.newcomers, self.regulars) if crowded else (self.regulars, self.newcomers):
            for member in file:
                return member
        return None

    def silent(self, now: float) -> list[M]:
        """Those that were silent for as long as they may be."""
        found = []
        for file in (self.newcomers, self.regulars):
            for member in file:
                if now - member.seen < self.shortest:
                    break
                if now - member.seen >= member.idle:
                    found.append(member)
        return found

    @staticmethod
    def _stand(member: M, file: OrderedDict[M, None]) -> None:
        file[member] = None
        member.among = file
