"""What more than one verb asks etcd for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ambcore.drains import Drains
from ambcore.errors import RegistryDeniedError
from ambcore.fleet import Announcement
from ambnet import fleet
from ambnet.etcd import Etcd

AT_ONCE = 16  # questions under way; a service's instances have about as many leases as there are hosts


async def drained(etcd: Etcd, prefix: str) -> Drains:
    """What operators drained; nothing where this user may not read it. Raises RegistryError."""
    try:
        return await fleet.drains(etcd, prefix)
    except RegistryDeniedError:
        return Drains()


async def announced(etcd: Etcd, prefix: str) -> tuple[Announcement, ...]:
    """The programs that take part; none where this user may not read it. Raises RegistryError."""
    try:
        return await fleet.programs(etcd, prefix)
    except RegistryDeniedError:
        return ()


async def time_left(etcd: Etcd, leases: Iterable[int]) -> dict[int, int | None]:
    """The seconds that each lease has left, None for one that ended; without those that this user may not ask for.

    Raises RegistryError.
    """
    turn = asyncio.Semaphore(AT_ONCE)
    found: dict[int, int | None] = {}

    async def ask(lease: int) -> None:
        async with turn:
            try:
                found[lease] = await etcd.time_to_live(lease)
            except RegistryDeniedError:
                return

    await asyncio.gather(*(ask(lease) for lease in {*leases} - {0}))
    return found
