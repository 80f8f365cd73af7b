"""What is looked at, each thing once, however many checks ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from ambcore.drains import Drains
from ambcore.fleet import Announcement
from ambcore.history import KeyValue
from ambctl.doctor import ask_etcd
from ambctl.doctor.judge_access import Access
from ambctl.doctor.judge_etcd import Seen
from ambctl.doctor.settings import Doctor
from ambnet import fleet
from ambnet.daemon import cancel
from ambnet.etcd import Etcd

T = TypeVar("T")


class Scene:
    """An async context manager. What cannot be had raises RegistryError from each question for it, again and again."""

    def __init__(self, settings: Doctor) -> None:
        self.settings = settings
        self.config = settings.etcd_config()
        self._etcd = Etcd(self.config)
        self._entering = asyncio.Lock()
        self._entered = False
        self._asked: dict[Callable[..., Any], asyncio.Task[Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancel(*self._asked.values())
        for task in self._asked.values():
            if not task.cancelled():
                task.exception()  # seen, whether anybody asked or not
        if self._entered:
            await self._etcd.aclose()

    async def endpoints(self) -> tuple[Seen, ...]:
        """Every endpoint that we were given, in that order."""

        async def look() -> tuple[Seen, ...]:
            return tuple(await asyncio.gather(*(ask_etcd.see(self.config, url) for url in self.config.endpoints)))

        return await self._once(Scene.endpoints, look)

    async def access(self) -> Access:
        """What we may do there."""

        async def look() -> Access:
            seen = await self.endpoints()
            return await ask_etcd.of_access(self.config, seen, self.settings.prefix, write=self.settings.write_probe)

        return await self._once(Scene.access, look)

    async def records(self) -> tuple[KeyValue, ...]:
        """Every record below the prefix."""

        async def look() -> tuple[KeyValue, ...]:
            etcd = await self._client()
            return tuple((await etcd.list(self.settings.prefix.encode())).items)

        return await self._once(Scene.records, look)

    async def programs(self) -> tuple[Announcement, ...]:
        """Every program that announced itself."""

        async def look() -> tuple[Announcement, ...]:
            return await fleet.programs(await self._client(), self.settings.fleet_prefix)

        return await self._once(Scene.programs, look)

    async def drains(self) -> Drains:
        """Every marker of an operator's."""

        async def look() -> Drains:
            return await fleet.drains(await self._client(), self.settings.fleet_prefix)

        return await self._once(Scene.drains, look)

    async def _client(self) -> Etcd:
        async with self._entering:
            if not self._entered:
                await self._etcd.__aenter__()
                self._entered = True
        return self._etcd

    async def _once(self, question: Callable[..., Awaitable[T]], look: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question, looked for when it is first asked. Who waits no longer leaves it to the others."""
        if question not in self._asked:
            self._asked[question] = asyncio.create_task(look())
        return cast("T", await asyncio.shield(self._asked[question]))
