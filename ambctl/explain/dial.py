"""Dial instances from here, as proxies check them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ambcore.health import Result
from ambcore.model import Address
from ambnet.dial import dial

PATIENCE = 1.0  # seconds for a handshake, as a kernel waits before it asks a second time


async def dialled(addresses: Iterable[Address]) -> dict[Address, Result]:
    """What a dial of each came to, all at once."""
    each = set(addresses)
    results = await asyncio.gather(*(dial(address, PATIENCE) for address in each))
    return dict(zip(each, results, strict=True))
