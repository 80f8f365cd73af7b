"""A reader of a watch that folds its messages and remembers them."""

from __future__ import annotations

import asyncio
from typing import Self

from ambcore.history import KeyDeleted, KeyValue, Listed, Message
from ambnet.watch import PrefixWatch


class Following:
    """An async context manager around a watch: `contents` by key, and every message so far."""

    def __init__(self, watch: PrefixWatch) -> None:
        self.watch = watch
        self.contents: dict[bytes, bytes] = {}
        self.messages: list[Message] = []
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.watch.__aenter__()
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.watch.__aexit__(None, None, None)
        await self._task

    @property
    def events(self) -> list[KeyValue | KeyDeleted]:
        """All changes that were told as such."""
        return [event for message in self.messages if not isinstance(message, Listed) for event in message.events]

    @property
    def lists(self) -> int:
        """How many whole lists were told."""
        return sum(isinstance(message, Listed) for message in self.messages)

    async def until(self, contents: dict[bytes, bytes], seconds: float = 15.0) -> None:
        """Wait until the reader knows exactly this."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self.contents == contents)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {self.contents} instead of {contents}") from None

    async def until_listed(self, count: int = 1, seconds: float = 15.0) -> None:
        """Wait for so many lists in all."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: self.lists >= count)

    async def _read(self) -> None:
        async for message in self.watch:
            self.messages.append(message)
            if isinstance(message, Listed):
                self.contents = {item.key: item.value for item in message.items}
            else:
                for event in message.events:
                    if isinstance(event, KeyDeleted):
                        self.contents.pop(event.key, None)
                    else:
                        self.contents[event.key] = event.value
            async with self._news:
                self._news.notify_all()
