"""The options of a relay, declared once for every program that has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ambcore.admission import IPNetwork, parse_networks
from ambnet.options import count, option, seconds
from ambnet.relay.limits import Limits

PROXY_VERSIONS: Mapping[str, int] = {"v1": 1, "v2": 2}


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds for everybody, and others for some by name."""

    everybody: float
    some: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """The seconds of one."""
        return self.some.get(name, self.everybody)

    def __str__(self) -> str:
        return ",".join([f"{self.everybody:g}", *(f"{name}={value:g}" for name, value in self.some.items())])


UDP_IDLE = Durations(60.0)


def parse_durations(text: str) -> Durations:
    """`SECONDS`, `NAME=SECONDS` or several of these with commas; raises ValueError."""
    everybody, some = UDP_IDLE.everybody, {}
    for item in text.split(","):
        name, equals, value = item.strip().rpartition("=")
        if equals and not name:
            raise ValueError(f"expected NAME=SECONDS, not {item!r}")
        if name:
            some[name] = seconds(value)
        else:
            everybody = seconds(value)
    return Durations(everybody, some)


def parse_proxy_version(text: str) -> int:
    """`v1` or `v2`; raises ValueError."""
    if text not in PROXY_VERSIONS:
        raise ValueError(f"expected v1 or v2, not {text!r}")
    return PROXY_VERSIONS[text]


@dataclass(frozen=True, kw_only=True)
class RelayOptions:
    """Whom a relay serves, how patient it is and how much it takes on; durations in seconds."""

    HEADING = "connections"

    allow: tuple[IPNetwork, ...] = option(
        "--allow",
        default=(),
        help="networks whose clients are served; default: all",
        parse=parse_networks,
        env=["AMB_ALLOW"],
        metavar="CIDR[,CIDR…]",
    )
    accept_proxy: tuple[IPNetwork, ...] = option(
        "--accept-proxy",
        default=(),
        help="networks whose clients begin with a PROXY header, v1 or v2, that says who they stand for",
        parse=parse_networks,
        env=["AMB_ACCEPT_PROXY"],
        metavar="CIDR[,CIDR…]",
    )
    send_proxy: int = option(
        "--send-proxy",
        default=0,
        help="tell instances who the client is, by the PROXY protocol: v1 or v2",
        parse=parse_proxy_version,
        env=["AMB_SEND_PROXY"],
        metavar="VERSION",
    )
    udp_idle: Durations = option(
        "--udp-idle",
        default=UDP_IDLE,
        help="forget a UDP client that is silent for so long; NAME=SECONDS for one service, or port of simple-amb's",
        parse=parse_durations,
        env=["AMB_UDP_IDLE"],
        metavar="SECONDS[,NAME=SECONDS…]",
    )
    udp_sessions: int = option(
        "--udp-sessions",
        default=4096,
        help="UDP clients a process knows at once; one more, and the longest silent is forgotten",
        parse=count,
        env=["AMB_UDP_SESSIONS"],
        metavar="N",
    )

    hand_over: str | None = option(
        "--hand-over",
        default=None,
        help="take the sockets, and the work, over from whoever serves at this unix socket, then serve there",
        env=["AMB_HAND_OVER"],
        metavar="PATH",
    )

    connect_timeout: float = option(
        "--connect-timeout",
        default=3.0,
        help="patience with one instance before the next is tried",
        parse=seconds,
        env=["AMB_CONNECT_TIMEOUT"],
        metavar="SECONDS",
    )
    idle_timeout: float = option(
        "--idle-timeout",
        default=0.0,
        help="close a connection silent in both directions for so long; default: never",
        parse=seconds,
        env=["AMB_IDLE_TIMEOUT"],
        metavar="SECONDS",
    )
    half_open_timeout: float = option(
        "--half-open-timeout",
        default=30.0,
        help="after one side ended, close when the other is silent for so long",
        parse=seconds,
        env=["AMB_HALF_OPEN_TIMEOUT"],
        metavar="SECONDS",
    )
    max_connections: int | None = option(
        "--max-connections",
        default=None,
        help="connections a process takes at once; default: as many as its limit of open files allows",
        parse=count,
        env=["AMB_MAX_CONNECTIONS"],
        metavar="N",
    )

    max_per_source: int | None = option(
        "--max-per-source",
        default=None,
        help="connections a client address may have at once, by PROXY header where there is one; more are reset, "
        "and each of several workers counts its own; default: any number",
        parse=count,
        env=["AMB_MAX_PER_SOURCE"],
        metavar="N",
    )
    max_per_instance: int | None = option(
        "--max-per-instance",
        default=None,
        help="connections an instance gets at once, several workers sharing them out; when all have as many, clients "
        "wait; default: any number",
        parse=count,
        env=["AMB_MAX_PER_INSTANCE"],
        metavar="N",
    )

    @property
    def limits(self) -> Limits:
        """What the relay has to keep to."""
        return Limits(
            connect_timeout=self.connect_timeout,
            idle_timeout=self.idle_timeout,
            half_open_timeout=self.half_open_timeout,
            max_connections=self.max_connections,
            max_per_source=self.max_per_source,
            max_per_instance=self.max_per_instance,
            udp_sessions=self.udp_sessions,
        )
