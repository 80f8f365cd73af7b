"""Dial the addresses of instances until somebody answers, and say where nobody does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from ambcore.errors import RegistryError
from ambcore.model import Instance
from ambcore.registration.extract import Refusal
from ambnet.dial import dial
from registrar.answers import LEISURE, Door, Verify, complaint, held_back, is_dialled, is_overdue, learn, pause

log = logging.getLogger("registrar")

TIMEOUT = 0.4  # seconds for a handshake, as proxies' checks have by default
# Dials under way. First ones have room of their own: whoever is silent delays nobody who has just started.
FIRST_AT_ONCE, AGAIN_AT_ONCE = 32, 16
MOST_SAID = 20  # instances complained of one by one; where this machine reaches none, a line each would be a flood

Key = tuple[str, str]  # service and instance id


class Doors:
    """Dials what it is told to `watch`, while `run` runs; `changed()` is called when an instance may be published now.

    `stands` asks whether an earlier life of this host's registrar has published an instance at that very address.
    """

    def __init__(
        self, verify: Verify, changed: Callable[[], None], stands: Callable[[Instance], Awaitable[bool]]
    ) -> None:
        self.verify = verify
        self._changed = changed
        self._stands = stands
        self._doors: dict[Key, Door] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._stir = asyncio.Event()
        self._first = asyncio.Semaphore(FIRST_AT_ONCE)
        self._again = asyncio.Semaphore(AGAIN_AT_ONCE)

    def watch(self, instances: Iterable[Instance], told: Mapping[Key, Instance]) -> None:
        """These are to answer, whole state each time; `told` is what the registry was told. Whatever goes and comes
        back is dialled anew.
        """
        if self.verify is Verify.NO:
            return
        wanted = {(one.service, one.id): one for one in instances if is_dialled(one)}
        for key, door in tuple(self._doors.items()):
            if key not in wanted or wanted[key].address != door.instance.address:
                del self._doors[key]
                if (task := self._tasks.pop(key, None)) is not None:
                    task.cancel()
        new = [key for key in wanted if key not in self._doors]
        now = time.monotonic()
        self._doors |= {key: Door(wanted[key], now, published=_is_same(wanted[key], told.get(key))) for key in new}
        if new:
            self._stir.set()

    def held_back(self, instance: Instance, told: Instance | None) -> Refusal | None:
        """Why an instance is not to be published yet; None if it may be."""
        if self.verify is not Verify.WAIT:
            return None
        door = self._doors.get((instance.service, instance.id))
        return held_back(instance, told, door if door and door.instance.address == instance.address else None)

    def unanswered(self) -> tuple[Door, ...]:
        """Those that were dialled in vain, in the order of keys."""
        return tuple(door for _, door in sorted(self._doors.items()) if door.tries and not door.answers)

    async def run(self) -> None:
        """Endless."""
        async with asyncio.TaskGroup() as group:
            while True:
                for key in self._doors.keys() - self._tasks.keys():
                    self._tasks[key] = group.create_task(self._follow(key))
                self._stir.clear()
                await self._stir.wait()

    async def _follow(self, key: Key) -> None:
        """Dial one until it answers. Whoever is watched no more is cancelled, so its door is there."""
        if self.verify is Verify.WARN:
            await asyncio.sleep(LEISURE)
        known = self.verify is Verify.WARN
        while True:
            known = known or await self._ask_whether_it_stands(key)
            async with self._again if self._doors[key].tries else self._first:
                result = await dial(self._doors[key].instance.address, TIMEOUT)
            door = self._doors[key] = learn(self._doors[key], result)
            if door.answers:
                self._answered(door)
                return
            if is_overdue(door, time.monotonic()):
                self._complain(key)
            await asyncio.sleep(pause(self._doors[key], self.verify))

    async def _ask_whether_it_stands(self, key: Key) -> bool:
        """Whether etcd told. Without it nothing can be published either."""
        try:
            stands = await self._stands(self._doors[key].instance)
        except RegistryError:
            return False
        if stands:
            self._doors[key] = replace(self._doors[key], published=True)
            self._changed()
        return True

    def _answered(self, door: Door) -> None:
        one = door.instance
        if door.said:
            waited = time.monotonic() - door.since
            log.info("%s/%s answers at %s, after %.0f s", one.service, one.id, one.address, waited)
        if self.verify is Verify.WAIT:
            self._changed()

    def _complain(self, key: Key) -> None:
        """Once for each, and of many for the first of them."""
        door = self._doors[key]
        said = sum(each.said and not each.answers for each in self._doors.values())
        self._doors[key] = replace(door, said=True)
        found = complaint(door, time.monotonic() - door.since, self.verify)
        if found is None or said > MOST_SAID:
            return
        if said == MOST_SAID:
            log.warning("more than %d instances do not answer registrar: /status.json lists them", MOST_SAID)
        else:
            log.warning("%s: %s", found.says, found.do)


def _is_same(instance: Instance, told: Instance | None) -> bool:
    return told is not None and told.address == instance.address
