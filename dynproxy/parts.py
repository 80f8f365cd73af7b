"""What a running dynproxy is made of, for those that tell about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ambnet.announce import Announcer
from ambnet.daemon import Life
from ambnet.etcd import Etcd
from ambnet.fleet import DrainWatch
from dynproxy.config import Settings
from dynproxy.following import Following
from dynproxy.health import HealthChecks
from dynproxy.memory import Memory
from dynproxy.plane import DataPlane

if TYPE_CHECKING:
    from dynproxy.docker_source import Containers
    from dynproxy.links import Links


@dataclass(frozen=True, slots=True)
class Parts:
    """Each part once, in the order in which they are made; None for those that this one has no need of."""

    settings: Settings
    etcd: Etcd | None
    containers: Containers | None
    links: Links | None
    following: Following
    plane: DataPlane
    health: HealthChecks
    life: Life
    drains: DrainWatch | None = None
    announcer: Announcer | None = None
    memory: Memory | None = None
