"""How many connections the relay has, and for how many it has room."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from ambnet.relay.limits import connection_cap
from dynproxy.config import Settings
from dynproxy.plane import PlaneStats


@dataclass(frozen=True, slots=True)
class Room:
    """`connections` that are open or wait, the `most` there can be, and `why` no more. With several workers one may be
    full before all are.
    """

    connections: int
    most: int
    why: str


def room(settings: Settings, stats: PlaneStats) -> Room:
    """As it stands now."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)  # ours, which the workers inherit
    connections = sum(
        traffic.parked + sum(item.connections for item in traffic.instances.values())
        for traffic in stats.services.values()
    )
    asked, fit = settings.limits.max_connections, connection_cap(None, files)
    why = f"the limit of open files is {files}" if asked is None or fit < asked else f"--max-connections is {asked}"
    return Room(connections, settings.workers * connection_cap(asked, files), why)
