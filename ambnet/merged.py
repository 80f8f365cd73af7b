"""Several endless streams read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from ambnet.daemon import cancel


async def merged(*streams: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """What any of them gives, as it comes; ends with the first that ends. A stream is asked for its next item only
    when the one before was taken up, so that what it merges meanwhile stays merged.

    To be closed by `contextlib.aclosing`; the streams are their owner's to close.
    """
    asked = {asyncio.ensure_future(_next(stream)): stream for stream in streams}
    try:
        while True:
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream = asked.pop(task)
                try:
                    item = task.result()
                except StopAsyncIteration:
                    return
                yield item
                asked[asyncio.ensure_future(_next(stream))] = stream
    finally:
        await cancel(*asked)


async def _next(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream)
