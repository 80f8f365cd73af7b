"""What the page shows, as values: services with their instances, programs, hosts, etcd. `fleet` makes them. Pure.

Times are seconds since 1970 by the clock of whoever saw them, durations seconds, sizes bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from ambcore.findings import Level
from ambcore.history import KeyValue
from ambcore.model import Instance
from ambcore.unreachable import Unreachable


class State(enum.StrEnum):
    """How it stands with an instance; the worst comes last."""

    UP = "up"
    DRAINING = "draining"
    REMOVED = "removed"  # no record any more, but connections that go on
    EJECTED = "ejected"  # some proxy asks it last: it refused, or does not answer checks
    REFUSED = "refused"  # a record that no proxy takes


LEVELS = {
    State.UP: Level.GREEN,
    State.DRAINING: Level.AMBER,
    State.REMOVED: Level.AMBER,
    State.EJECTED: Level.RED,
    State.REFUSED: Level.RED,
}


@dataclass(frozen=True, slots=True)
class Said:
    """A program, and its status document or why there is none. `name` tells it from the others; `unreachable` are the
    instances that it announces to be.
    """

    name: str
    document: Mapping[str, object] | None
    error: str = ""
    kind: str = ""
    host: str = ""
    admin: str = ""
    version: str = ""
    unreachable: tuple[Unreachable, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A record in etcd: the instance it describes, as operators want it, or why it was refused; `why` says who drained
    it.
    """

    item: KeyValue
    found: Instance | str
    why: str = ""


@dataclass(frozen=True, slots=True)
class EtcdSight:
    """How etcd is seen. `age` is the seconds since the view was last proven current."""

    endpoint: str
    connected: bool
    error: str = ""
    age: float | None = None
    watching: bool = True
    revision: int = 0
    members: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is known at one moment. `records` and `leases` (lease: when it runs out) are of etcd itself."""

    at: float
    said: tuple[Said, ...]
    records: tuple[Record, ...] | None = None
    leases: Mapping[int, float] = field(default_factory=dict)
    etcd: EtcdSight | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What was carried: connections open, and begun, failed and bytes so far."""

    active: int = 0
    begun: int = 0
    failed: int = 0
    bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.active + other.active, self.begun + other.begun, self.failed + other.failed, self.bytes + other.bytes
        )


@dataclass(frozen=True, slots=True)
class Seat:
    """An instance as the page shows it. `why` says what is wrong; `since` when it was first seen; `until` when its
    lease runs out unless it is renewed, None for a record without one, or where that is not known (`leased` tells).
    """

    service: str
    id: str
    address: str = ""
    state: State = State.UP
    why: str = ""
    host: str = ""
    protocol: str = ""
    weight: int = 1
    since: int | None = None
    until: int | None = None
    leased: bool | None = None
    container: str = ""
    check: str = ""
    notes: str = ""
    work: Work | None = None

    @property
    def level(self) -> Level:
        """The colour."""
        return LEVELS[self.state]


@dataclass(frozen=True, slots=True)
class Stand:
    """One proxy's stand for a service: what it listens on, which plane serves, how well it sees the records."""

    program: str
    host: str
    ports: tuple[str, ...] = ()
    plane: str = ""
    plane_why: str = ""
    policy: str = ""
    watching: bool = True
    age: float | None = None
    revision: int = 0
    parked: int = 0
    work: Work = Work()
    known: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its instances in the order of their ids, and the proxies that stand for it."""

    name: str
    seats: tuple[Seat, ...] = ()
    stands: tuple[Stand, ...] = ()
    work: Work | None = None
    parked: int = 0

    def count(self, state: State) -> int:
        """How many instances are in a state."""
        return sum(seat.state is state for seat in self.seats)

    @property
    def level(self) -> Level:
        """Red while nobody takes new connections, amber while somebody should know."""
        if not any(stand.known for stand in self.stands) and not self.seats:
            return Level.UNKNOWN
        if not self.count(State.UP):
            return Level.RED
        return Level.GREEN if all(seat.state is State.UP for seat in self.seats) else Level.AMBER


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who a proxy listens for."""

    name: str
    service: str
    program: str


@dataclass(frozen=True, slots=True)
class Program:
    """A running program. `level` is red where it cannot be asked."""

    name: str
    kind: str
    host: str
    version: str
    admin: str
    level: Level
    says: str
    since: int | None


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A container or a link that is not served, and why."""

    name: str
    why: str
    host: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A line at the top of the page. `since`: when it began, to be shown as an age."""

    level: Level
    text: str
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything on the page but figures that need two looks."""

    services: tuple[Service, ...] = ()
    programs: tuple[Program, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    unregistered: tuple[Unregistered, ...] = ()
    notices: tuple[Notice, ...] = ()
    etcd: EtcdSight | None = None

    def service(self, name: str) -> Service | None:
        """The service of this name, if there is one."""
        return next((service for service in self.services if service.name == name), None)
