"""Dial one instance, as proxies check it, and wait for what comes of it."""

from __future__ import annotations

import asyncio

from ambcore.health import Result
from ambcore.model import Address
from ambnet.tcpcheck import knock


async def dial(address: Address, timeout: float) -> Result:  # noqa: ASYNC109 - of the handshake; listening comes on top
    """What one check comes to; `timeout` seconds are for the connection alone. Raises nothing but what cancels it."""
    loop = asyncio.get_running_loop()
    found = knock(address, timeout, loop.time())
    if isinstance(found, Result):
        return found
    try:
        while (result := found.look(loop.time())) is None:  # noqa: ASYNC110 - it says itself when to look again
            await asyncio.sleep(max(0.0, found.next_look - loop.time()))
        return result
    finally:
        found.close()
