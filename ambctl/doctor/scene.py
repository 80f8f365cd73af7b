"""What is looked at, each thing once, however many checks ask for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from ambcore.drains import Drains
from ambcore.errors import RecordError, RegistryError, RegistryUnavailableError
from ambcore.fleet import PROGRAMS, Announcement, decode_program
from ambcore.history import KeyValue
from ambcore.model import Instance
from ambcore.table import Reader
from ambcore.text import visible
from ambctl.common import patience
from ambctl.doctor import ask_etcd, ask_fleet
from ambctl.doctor.judge_access import Access
from ambctl.doctor.judge_etcd import Seen
from ambctl.doctor.judge_programs import Asked
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
        self.unreadable: dict[str, str] = {}
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
        return await self._once(Scene.records, self._list)

    async def instances(self, *, anew: bool = False) -> tuple[Instance, ...]:
        """Those that the records describe, but for what their readers refuse; with `anew`, as they are by now."""
        return tuple(_readable(await (self._list() if anew else self.records()), self.settings.reader))

    async def _list(self) -> tuple[KeyValue, ...]:
        async with self._etcd() as etcd:
            return tuple((await etcd.list(self.settings.prefix.encode())).items)

    async def programs(self) -> tuple[Announcement, ...]:
        """Every program that announced itself; why others' announcements cannot be read, is in `unreadable` then."""

        async def look() -> tuple[Announcement, ...]:
            prefix = self.settings.fleet_prefix
            async with self._etcd() as etcd:
                listed = (await etcd.list(f"{prefix}{PROGRAMS}".encode())).items
            found: list[Announcement] = []
            for item in listed:
                try:
                    found.append(decode_program(item.key, item.value, prefix))
                except RecordError as error:
                    self.unreadable[visible(item.key.decode(errors="backslashreplace"))] = str(error)
            return tuple(sorted(found, key=lambda each: (each.kind, each.id)))

        return await self._once(Scene.programs, look)

    async def asked(self, *, anew: bool = False) -> tuple[Asked, ...]:
        """Every one of them with its status document, as far as it can be had, and those that the operator named. With
        `anew`, as they are by now.
        """
        return await (self._ask() if anew else self._once(Scene.asked, self._ask))

    async def _ask(self) -> tuple[Asked, ...]:
        named = await ask_fleet.named(self.settings.ask)
        try:
            announced = await ask_fleet.documents(await self.programs())
        except RegistryError:  # then they are the ones that matter
            if not named:
                raise
            return named
        known = {each.program.admin for each in named}
        return (*named, *(each for each in announced if each.program.admin not in known))

    async def drains(self) -> Drains:
        """Every marker of an operator's."""

        async def look() -> Drains:
            async with self._etcd() as etcd:
                return await fleet.drains(etcd, self.settings.fleet_prefix)

        return await self._once(Scene.drains, look)

    @contextlib.asynccontextmanager
    async def _etcd(self) -> AsyncIterator[Etcd]:
        """A client to read with. Raises RegistryError, at once where no member answers."""
        if not any(each.status for each in await self.endpoints()):
            raise RegistryUnavailableError("etcd could not be asked")
        async with Etcd(self.config) as etcd, patience(self.settings, etcd):
            yield etcd

    async def _once(self, question: Callable[..., Awaitable[T]], look: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question, looked for when it is first asked. Who waits no longer leaves it to the others."""
        if question not in self._asked:
            self._asked[question] = asyncio.create_task(look())
        return cast("T", await asyncio.shield(self._asked[question]))


def _readable(items: Iterable[KeyValue], reader: Reader) -> Iterator[Instance]:
    for item in items:
        with contextlib.suppress(RecordError):
            yield reader.read(item)
