"""The data plane's interface: what a control plane may ask of whatever carries the bytes.

Implementations are chosen by name; `relay_plane` works anywhere. A plane serves from the moment it is made:
until a service's instances are first applied they are unknown, which is not the same as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ambcore.model import Instance
from ambnet.relay.protocol import ServiceStats


@dataclass(frozen=True, slots=True)
class PlaneStats:
    """One look at a plane. `processes` are the pids of those that carry bytes; `why` says why this plane serves."""

    plane: str
    why: str
    processes: tuple[int, ...]
    healthy: bool
    services: Mapping[str, ServiceStats]


class DataPlane(Protocol):
    """Four verbs. Every implementation passes `tests/contract/plane.py`."""

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        """Make these the instances of a service; returns once every connection that is accepted sees them.

        Those whose ids are `unhealthy` are asked last: when nobody else is left or answers. Idempotent, whole state,
        never a difference. Existing connections follow `--on-removal`.
        """

    def stats(self) -> PlaneStats:
        """What was carried so far; at most a second old."""

    async def drain(self, seconds: float) -> None:
        """Accept nothing new and return when no connection is left, or after `seconds`."""

    async def aclose(self) -> None:
        """End everything at once. Closing twice is fine."""
