"""Who is served beyond their records: etcd may forget what is well, and clients must not pay for that.

Leases end while registrars cannot reach etcd, or all at once by a defect of etcd; a cluster comes back with an older
state, or another one answers in its place. The rules:

- An instance is *missing* when its record vanished though nobody deleted it, while it took clients and answered.
- As soon as more are missing than are left, the missing are *held*: served as if their records stood. One loss among
  several is believed at once, as the others can carry on.
- A held one is let go when it does not answer, when another stands at its address, when it turns out that somebody
  deleted its record after all, and when its time is over. When its record is back, it is an instance like any other.

Whether somebody deleted a record, its lease tells: the end of a lease takes its records along, and after a deletion by
hand it lives on. A record without a lease ends by deletion only.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from ambcore.model import Instance

LATELY = 30.0  # seconds for which a loss counts with later ones: leases of several hosts end within one lease's time


class Loss(enum.StrEnum):
    """Why a record vanished."""

    UNKNOWN = "it is not known yet why"
    DELETED = "somebody deleted it"
    EXPIRED = "its lease ended"
    REWOUND = "etcd has another past than it had"


@dataclass(frozen=True, slots=True)
class Missing:
    """An instance whose record vanished at `since`, in the caller's seconds, with its lease, 0 for none."""

    instance: Instance
    since: float
    loss: Loss = Loss.UNKNOWN
    lease: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """Those of a service that are missing, each id once, in the order in which they went."""

    missing: tuple[Missing, ...] = ()

    @property
    def held(self) -> tuple[Missing, ...]:
        """Those of them that are served."""
        return tuple(each for each in self.missing if each.held)

    @property
    def questions(self) -> frozenset[int]:
        """The leases of which has to be known whether they live."""
        return frozenset(each.lease for each in self.held if each.loss is Loss.UNKNOWN)

    def over(self, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        """The instances with those that are held, sorted by id; the same object if none is."""
        held = [each.instance for each in self.held]
        return tuple(sorted((*instances, *held), key=lambda item: item.id)) if held else instances

    def answered(self, lease: int, lives: bool) -> Hold:
        """The same, as it is known now whether a lease lives."""
        loss = Loss.DELETED if lives else Loss.EXPIRED
        return Hold(
            tuple(
                replace(each, loss=loss) if each.loss is Loss.UNKNOWN and each.lease == lease else each
                for each in self.missing
            )
        )


NOTHING = Hold()


def first_loss(lease: int, *, rewound: bool) -> Loss:
    """What can be said of a vanished record before anybody was asked; `rewound`: etcd's past is another since."""
    if rewound:
        return Loss.REWOUND
    return Loss.UNKNOWN if lease else Loss.DELETED


def lose(hold: Hold, gone: Iterable[Missing], unhealthy: Collection[str]) -> Hold:
    """Take in that records have vanished. Who got no clients, or did not answer, is not missed."""
    missed = [
        each
        for each in gone
        if each.loss is not Loss.DELETED and each.instance.takes_new and each.instance.id not in unhealthy
    ]
    ids = {each.instance.id for each in missed}
    return Hold((*(each for each in hold.missing if each.instance.id not in ids), *missed)) if missed else hold


def review(
    hold: Hold, present: tuple[Instance, ...], unhealthy: Collection[str], now: float, *, seconds: float
) -> Hold:
    """The hold as it has to be now, beside those whose records are `present`. `unhealthy` are ids that do not answer;
    nobody is held for more than `seconds`.
    """
    if not hold.missing:
        return hold
    ids = {item.id for item in present}
    places = {(item.address, item.protocol) for item in present}

    def stays(each: Missing) -> bool:
        item, time = each.instance, seconds if each.held else min(seconds, LATELY)
        return (
            each.loss is not Loss.DELETED
            and now < each.since + time
            and item.id not in ids
            and (item.address, item.protocol) not in places
            and item.id not in unhealthy
        )

    missing = tuple(filter(stays, hold.missing))
    left = sum(item.takes_new and item.id not in unhealthy for item in present)
    if left < len(missing):
        missing = tuple(each if each.held else replace(each, held=True) for each in missing)
    return hold if missing == hold.missing else Hold(missing)
