"""The data plane's interface: what a control plane may ask of whatever carries the bytes.

`relay_plane` works anywhere, `kernel_plane` where the machine lets us, `planes` chooses. A plane serves from the moment
it is made: until a service's instances are first applied they are unknown, which is not the same as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ambcore.model import Instance
from ambnet.relay.protocol import ServiceStats
from dynproxy.config import Front


@dataclass(frozen=True, slots=True)
class KernelTraffic:
    """What the kernel forwarded for a service since this process began: new connections; packets and bytes, both ways.

    A connection that was refused and went on to another instance counts for each. Bytes include the headers.
    """

    connections: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """Which plane takes a service's new connections now, and why. `refusing` names instances that the kernel passes by
    because they refused a client within the last seconds.
    """

    plane: str
    why: str
    traffic: KernelTraffic = KernelTraffic()
    refusing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KernelState:
    """How the kernel plane's own work goes. `error` is why the last transaction failed, None if it did not.

    `cut` counts connections that were ended, `flow_errors` the times that the kernel would not end or forget some.
    """

    tables: tuple[str, ...]
    transactions: int
    failures: int
    repairs: int
    error: str | None
    cut: int = 0
    flow_errors: int = 0


@dataclass(frozen=True, slots=True)
class PlaneStats:
    """One look at a plane. `processes` are the pids of those that carry bytes, `restarts` how often one was replaced;
    `updates` how often it was told of a service. `why` says why this plane serves.

    `serving` has the services that are not simply this plane's, `kernel` is None where there is no kernel plane.
    """

    plane: str
    why: str
    processes: tuple[int, ...]
    healthy: bool
    services: Mapping[str, ServiceStats]
    serving: Mapping[str, Serving] = field(default_factory=dict)
    kernel: KernelState | None = None
    restarts: int = 0
    updates: int = 0

    def serves(self, service: str) -> Serving:
        """Who serves this one."""
        return self.serving.get(service) or Serving(self.plane, self.why)


class DataPlane(Protocol):
    """Eight verbs. Every implementation passes `tests/contract/test_plane.py`.

    One that was made to wait accepts nobody and writes nothing until it takes charge, but knows what is applied.
    """

    async def take_charge(self) -> None:
        """Serve from now on. Taking it twice is fine, and so is taking back what was given and not taken."""

    async def give_charge(self) -> None:
        """Another process is about to take over: write no rule from now on, and go on accepting until `drain`."""

    async def open(self, front: Front) -> None:
        """Listen for one more front, whose clients wait until its service's instances are applied.

        Raises ConfigError when its port cannot be had. A front that is open already stays open.
        """

    async def close(self, front: Front) -> None:
        """Listen for a front no more; what is connected through it goes on. Closing an unknown one is fine."""

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        """Make these the instances of a service; returns once every connection that is accepted sees them.

        Those whose ids are `unhealthy` are asked last: when nobody else is left or answers. Idempotent, whole state,
        never a difference. Existing connections follow `--on-removal`.
        """

    def stats(self, *, again_soon: bool = True) -> PlaneStats:
        """What was carried so far: a second old for who asks `again_soon`, as a page does, else a few."""

    async def drain(self, seconds: float) -> None:
        """Accept nothing new and return when no connection is left, or after `seconds`."""

    async def aclose(self) -> None:
        """End everything at once. Closing twice is fine."""
