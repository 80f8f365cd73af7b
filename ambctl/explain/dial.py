"""Dial instances from here, as proxies check them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ambcore.health import Result
from ambcore.model import Address
from ambnet.tcpcheck import knock

PATIENCE = 1.0  # seconds for a handshake, as a kernel waits before it asks a second time


async def dialled(addresses: Iterable[Address]) -> dict[Address, Result]:
    """What a dial of each came to, all at once."""
    each = set(addresses)
    return dict(zip(each, await asyncio.gather(*map(_dial, each)), strict=True))


async def _dial(address: Address) -> Result:
    loop = asyncio.get_running_loop()
    found = knock(address, PATIENCE, loop.time())
    if isinstance(found, Result):
        return found
    try:
        while (result := found.look(loop.time())) is None:  # noqa: ASYNC110 - it says itself when to look again
            await asyncio.sleep(max(0.0, found.next_look - loop.time()))
        return result
    finally:
        found.close()
