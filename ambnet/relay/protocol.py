"""How a worker and its parent talk: messages over a stream socket, each a length and a JSON object.

The parent starts `python -m ambnet.relay.worker --control FD --doors FD` and lets it inherit both, ends of a
`socket.socketpair()` each (SOCK_STREAM and SOCK_SEQPACKET), and every listening socket, under the numbers that
`Configure` names (`subprocess`: `pass_fds`). Listening sockets for TCP may be shared between workers.

    parent -> worker   Configure, once and first; for each route Endpoints, then Changes, as often as it has some;
                       RouteSetup and Close for a route that comes or goes later; Drain, once
    through the doors  the same RouteSetup with its sockets as SCM_RIGHTS; see `doors`
    worker -> parent   Ready, after Configure; Applied, for each Endpoints and Changes; Stats, what changed, each
                       second and before it ends; Event, a line for the log

A route is a service's way for one transport: its name is the service's for TCP, and `udp_route(service)` for UDP.

Until the first Endpoints of a route its instances are unknown and its clients are parked. A worker ignores SIGTERM
and SIGINT: its parent decides. It ends with 0 after Drain, or after its parent has gone (end of file): then it closes
its listeners at once, so that a new parent can bind them, and lets connections finish for `Configure.orphan_drain`
seconds; a parent that goes during a drain ends it. It ends with 1, after an Event that says why, when a listener is
broken.

A frame is a length, 4 bytes big-endian, then that many bytes of UTF-8 JSON with the key "type".
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ambnet.relay.limits import Limits
from ambnet.relay.upstream import Endpoint, Key

HEADER = struct.Struct("!I")
MAX_FRAME = 64 * 1024 * 1024  # 100,000 instances with long names are a fifth of it


UDP = "/udp"  # no service has a slash in its name


def udp_route(service: str) -> str:
    """The name of a service's route for datagrams."""
    return service + UDP


@dataclass(frozen=True, slots=True)
class RouteSetup:
    """One route as a worker serves it; its name says which transport.

    `listeners` are descriptors of sockets that this worker has: listening ones, or bound ones for UDP, which no other
    worker shares. `policy` is a name from `ambcore.picker.POLICIES`, `on_removal` the seconds that connections of a
    removed instance may go on (None: for ever, 0: not at all). `send_proxy` is the version of the PROXY protocol that
    its instances are spoken to in, 0 for none. `udp_idle` ends a UDP session that is silent for so many seconds.
    """

    service: str
    listeners: tuple[int, ...]
    policy: str = "round-robin"
    on_removal: float | None = None
    send_proxy: int = 0
    udp_idle: float = 60.0

    @property
    def is_udp(self) -> bool:
        """Whether it carries datagrams."""
        return self.service.endswith(UDP)


@dataclass(frozen=True, slots=True)
class Configure:
    """Everything a worker has to know to begin. `log_level` is a key of `ambnet.log.LEVELS`.

    `allow` are the networks whose clients are served, none for all; those in `accept_proxy` begin with a header of the
    PROXY protocol. Both in CIDR notation.
    """

    services: tuple[RouteSetup, ...]
    limits: Limits = field(default_factory=Limits)
    orphan_drain: float = 30.0
    log_level: str = "info"
    allow: tuple[str, ...] = ()
    accept_proxy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """All instances of a service from now on; None for "not known", which is not the same as none.

    `generation` is the sender's own count and comes back in Applied.
    """

    service: str
    generation: int
    endpoints: tuple[Endpoint, ...] | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What makes of the instances told before those of this generation: `put` are new or altered, `removed` are gone.

    An instance with a new address is in both. Of 10,000 instances few change at a time, and all of them are 30 ms of
    work at each end.
    """

    service: str
    generation: int
    put: tuple[Endpoint, ...]
    removed: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Close a route's listener on this address; what is connected through it goes on."""

    service: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing more, end when the last connection has ended, reset what is left after `seconds`.

    `handed_over`: another process has the sockets, too; what waits in those for datagrams is its to read.
    """

    seconds: float
    handed_over: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker accepts connections."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Every connection accepted from now on sees this generation."""

    service: str
    generation: int


@dataclass(frozen=True, slots=True)
class InstanceStats:
    """What one instance carried since the worker began. Bytes: in is client to instance, out the way back."""

    connections: int = 0  # open now
    connections_total: int = 0
    connect_failures: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    ejected: bool = False  # asked last, because it failed lately or is known to be ill


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """What one service's clients met. `counters` has the names of `ambnet.relay.route.COUNTERS`.

    In a worker's message `instances` has those whose numbers changed since the message before, and `gone` names those
    to forget: of 10,000 instances few have news each second. `merge` makes it whole again.
    """

    parked: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    instances: Mapping[str, InstanceStats] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    """A worker's state in numbers. `connections` counts parked and connecting ones, too."""

    connections: int
    services: Mapping[str, ServiceStats]


@dataclass(frozen=True, slots=True)
class Event:
    """A line for the parent's log; `level` is a key of `ambnet.log.LEVELS`."""

    level: str
    text: str


def changes(service: str, generation: int, was: Iterable[Endpoint], now: Iterable[Endpoint]) -> Changes:
    """What has to be told to somebody who knows `was`, so that it knows `now`."""
    before = {endpoint.id: endpoint for endpoint in was}
    put = []
    for endpoint in now:
        if before.get(endpoint.id) == endpoint:
            del before[endpoint.id]
        else:
            put.append(endpoint)
    kept = {endpoint[:3] for endpoint in put}
    removed = tuple(key for endpoint in before.values() if (key := endpoint[:3]) not in kept)
    return Changes(service, generation, tuple(put), removed)


def merge(known: Stats, news: Stats) -> Stats:
    """The whole state, from what was known and a worker's next message."""
    services = {}
    for name, service in news.services.items():
        before = known.services[name].instances if name in known.services else {}
        instances = before
        if service.instances or service.gone:
            instances = {**before, **service.instances}
            for instance in service.gone:
                instances.pop(instance, None)
        services[name] = ServiceStats(service.parked, service.counters, instances)
    return Stats(news.connections, services)


Message = Configure | RouteSetup | Close | Endpoints | Changes | Drain | Ready | Applied | Stats | Event


def encode(message: Message) -> bytes:
    """The message as one frame."""
    body = {"type": type(message).__name__, **_fields(message)}
    text = json.dumps(body, default=_fields, ensure_ascii=False, separators=(",", ":")).encode()
    return HEADER.pack(len(text)) + text


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}


def decode(text: bytes) -> Message:
    """The message in a frame's body. Raises ValueError for anything that `encode` does not write."""
    try:
        body = json.loads(text)
        return _READERS[body.pop("type")](body)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a message: {text[:80]!r}") from error


class Frames:
    """Cuts a byte stream into messages, wherever its pieces end."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages completed by `piece`, in order. Raises ValueError if the stream is not ours."""
        held = self._held
        held += piece
        while len(held) >= HEADER.size:
            (length,) = HEADER.unpack_from(held)
            if length > MAX_FRAME:
                raise ValueError(f"a frame of {length} bytes")
            if len(held) < (end := HEADER.size + length):
                return
            text = bytes(held[HEADER.size : end])
            del held[:end]
            yield decode(text)


def _route_setup(body: dict[str, Any]) -> RouteSetup:
    return RouteSetup(**(body | {"listeners": tuple(body["listeners"])}))


def _configure(body: dict[str, Any]) -> Configure:
    parts = {
        "services": tuple(map(_route_setup, body["services"])),
        "limits": Limits(**body["limits"]),
        "allow": tuple(body["allow"]),
        "accept_proxy": tuple(body["accept_proxy"]),
    }
    return Configure(**(body | parts))


def _endpoints(body: dict[str, Any]) -> Endpoints:
    rows = body["endpoints"]
    return Endpoints(**(body | {"endpoints": None if rows is None else tuple(Endpoint(*row) for row in rows)}))


def _changes(body: dict[str, Any]) -> Changes:
    put = tuple(Endpoint(*row) for row in body["put"])
    removed = tuple((name, host, port) for name, host, port in body["removed"])
    return Changes(**(body | {"put": put, "removed": removed}))


def _stats(body: dict[str, Any]) -> Stats:
    return Stats(body["connections"], {name: _service_stats(row) for name, row in body["services"].items()})


def _service_stats(body: dict[str, Any]) -> ServiceStats:
    return ServiceStats(
        **(
            body
            | {
                "instances": {name: InstanceStats(**row) for name, row in body["instances"].items()},
                "gone": tuple(body["gone"]),
            }
        )
    )


_READERS: Mapping[str, Callable[[dict[str, Any]], Message]] = {
    "Configure": _configure,
    "RouteSetup": _route_setup,
    "Endpoints": _endpoints,
    "Changes": _changes,
    "Stats": _stats,
    "Close": lambda body: Close(**body),
    "Drain": lambda body: Drain(**body),
    "Ready": lambda body: Ready(**body),
    "Applied": lambda body: Applied(**body),
    "Event": lambda body: Event(**body),
}
