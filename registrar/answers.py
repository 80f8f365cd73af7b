"""PURE: whether anybody answers where an instance is said to be, and what follows for its record.

Docker publishes a port before the program in the container listens, and its docker-proxy accepts for a program that
never will. So registrar dials what it tells others: from here, which is not where clients are. An answer proves that
the program is up and the address is right; the lack of one may be this machine's way alone.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ambcore.findings import Finding, Level
from ambcore.health import Result, Verdict
from ambcore.model import Instance, Protocol
from ambcore.registration.extract import Reason, Refusal

PATIENCE = 5.0  # seconds without an answer that are worth a line; most programs listen sooner
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0  # seconds between two dials, each pause twice as long as the one before
SELDOM = 5.0  # seconds between two dials of what was complained of, where nothing waits for the answer
LEISURE = 0.3  # seconds before a first dial that nothing waits for: writing the record comes first


class Verify(enum.StrEnum):
    """What an answer is for."""

    WARN = "warn"  # publish at once, and say where nobody answers
    WAIT = "wait"  # publish what has answered
    NO = "no"  # never dial


@dataclass(frozen=True, slots=True)
class Door:
    """What dials of an instance's address have come to. `since` is when it was first wanted (monotonic); `published`:
    that very address was published before it was dialled; `said`: that nobody answers was said.
    """

    instance: Instance
    since: float
    tries: int = 0
    last: Result | None = None
    published: bool = False
    said: bool = False

    @property
    def answers(self) -> bool:
        """Whether somebody has answered."""
        return self.last is not None and self.last.verdict is Verdict.PASSED

    @property
    def why(self) -> str:
        """What was seen instead of an answer; empty before the first dial."""
        return self.last.why if self.last is not None and not self.answers else ""


def is_dialled(instance: Instance) -> bool:
    """A datagram service need not answer, and one that drains gets no client anyway."""
    return instance.protocol is Protocol.TCP and instance.takes_new


def learn(door: Door, result: Result) -> Door:
    """What is known after a dial."""
    return replace(door, last=result, tries=door.tries + 1)


def pause(door: Door, verify: Verify) -> float:
    """Seconds until the next dial."""
    if door.said and (verify is Verify.WARN or door.published):
        return SELDOM
    return min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(door.tries - 1, 10))


def is_overdue(door: Door, now: float) -> bool:
    """Whether it is time to say that nobody answers."""
    return not door.answers and not door.said and now - door.since >= PATIENCE


def held_back(instance: Instance, told: Instance | None, door: Door | None) -> Refusal | None:
    """Why an instance waits for an answer before it is published; None if it need not. `told` is what the registry was
    told under its key: an address that is published already is not taken back, what comes of it is the proxies' to see.
    """
    if instance.protocol is not Protocol.TCP or (told is not None and told.address == instance.address):
        return None
    if door is not None and (door.answers or door.published):
        return None
    text = f"{instance.service}/{instance.id} waits until somebody answers at {instance.address} (--verify wait)"
    return Refusal(Reason.UNANSWERED, text)


ADVICE: Mapping[Verdict, str] = {
    Verdict.REFUSED: "see whether the program in the container runs, and on which port it listens",
    Verdict.CLOSED: "Docker listens there and nobody in the container does: see on which port and address it listens",
    Verdict.SILENT: "see whether the address is right, and whether a firewall drops what comes from this machine",
    Verdict.LOCAL: "it is this machine that could not ask",
}


def complaint(door: Door, seconds: float, verify: Verify) -> Finding | None:
    """That nobody has answered for so long; None where somebody has, or nobody was asked yet."""
    if door.last is None or door.answers:
        return None
    one, published = door.instance, verify is Verify.WARN or door.published
    what = "it is published all the same" if published else "it is not published"
    text = f"nobody has answered registrar at {one.address}, {one.service}/{one.id}, for {seconds:.0f} s ({door.why})"
    level = Level.AMBER if published else Level.RED
    return Finding(level, "answer", f"{text}; {what}", ADVICE[door.last.verdict])
