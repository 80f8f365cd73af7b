"""One record that a registrar keeps: the wish, and what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ambcore.model import Instance


@dataclass(eq=False, slots=True)
class Record:
    """`wanted` is to stand under the instance id `id`.

    `revision` is that of our last confirmed write, 0 without one; `written` what it wrote, value and lease, None while
    something else is wanted. `superseded`: a newer life of this host has taken it over. Who writes holds `lock`.
    """

    wanted: Instance
    id: str
    revision: int = 0
    written: tuple[bytes, int] | None = None
    superseded: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> tuple[str, str]:
        """Service and instance, as they are wished for."""
        return self.wanted.service, self.wanted.id
