"""The real nft, which fails when a test says so."""

from __future__ import annotations

import asyncio
from typing import Any

from ambnet.nft import Nft, NftError, Trouble


class FaultyNft(Nft):
    """Works on the kernel of the thread's network namespace; `applied` has every text that it was given.

    `trouble` is raised in place of each call while it is set; transactions wait while `flowing` is not set. `called` is
    set with each transaction that begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[str] = []
        self.trouble: NftError | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.called = asyncio.Event()

    def fail(self, kind: Trouble = Trouble.REFUSED) -> None:
        """From now on, until `trouble` is None."""
        self.trouble = NftError(kind, "as the test wants")

    async def apply(self, text: str) -> None:
        self.applied.append(text)
        self.called.set()
        await self.flowing.wait()
        self._complain()
        await super().apply(text)

    async def read(self, *commands: str) -> list[dict[str, Any]]:
        self._complain()
        return await super().read(*commands)

    def _complain(self) -> None:
        if self.trouble is not None:
            raise self.trouble
