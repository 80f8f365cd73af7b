"""The options of a relay, declared once for every program that has one."""

from __future__ import annotations

from dataclasses import dataclass

from ambnet.options import count, option, seconds
from ambnet.relay.limits import Limits


@dataclass(frozen=True, kw_only=True)
class RelayOptions:
    """How patient a relay is and how much it takes on; durations in seconds."""

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
        default=3600.0,
        help="close a connection silent in both directions for so long; 0 never",
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

    @property
    def limits(self) -> Limits:
        """What the relay has to keep to."""
        return Limits(
            connect_timeout=self.connect_timeout,
            idle_timeout=self.idle_timeout,
            half_open_timeout=self.half_open_timeout,
            max_connections=self.max_connections,
        )
