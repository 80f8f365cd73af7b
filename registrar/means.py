"""What registrar works with, and what both kinds of agent tell of themselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from ambnet.announce import Announcer
from ambnet.daemon import Life
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd
from ambnet.lease import LeaseKeeper
from registrar.doors import Doors


@dataclass(frozen=True, slots=True)
class Means:
    """What registrar works with."""

    life: Life
    engine: Engine
    etcd: Etcd
    keeper: LeaseKeeper
    announcer: Announcer | None = None


class Agents(Protocol):
    """What both kinds of agent tell of themselves."""

    counters: Counter[str]
    denied: str | None
    doors: Doors

    @property
    def seen(self) -> asyncio.Event:
        """Set once Docker told what it is asked for."""

    @property
    def settled(self) -> bool:
        """Whether the registry agrees."""
