"""The agent of a whole host: follows all containers in Docker and makes the registry agree.

The inventory tells what is heard and seen of each container, `host_plan` says what follows, `_write` carries it out,
always towards the latest wish. Docker or etcd away: what is known and held stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ambcore.backoff import backoff
from ambcore.containers import ContainerEvent, EngineInfo
from ambcore.errors import DockerError, IllegalStepError, RegistryDeniedError, RegistryError
from ambcore.model import Instance, IPAddress
from ambcore.registration.conventions import Conventions, find
from ambcore.registration.essence import essence
from ambcore.registration.extract import Host, Reason
from ambnet.daemon import background
from ambnet.dockerd import Engine
from ambnet.inventory import Inventory
from registrar.agent import FIRST_RETRY, LAST_RETRY, PORT_LOOKS, PORT_PAUSE, Records
from registrar.answers import Verify
from registrar.doors import Doors
from registrar.host_plan import HostView, Key, Wanted, hold_back, next_change, settle, steps
from registrar.reconcile import Action, Do, View, hear, seen
from registrar.whereabouts import Whereabouts

log = logging.getLogger("registrar")

AT_ONCE = 16  # writes under way together
ROUTE_AGAIN = 2.0  # seconds; a host that has just started may get its address yet
FOR_THE_OPERATOR = frozenset(
    {Reason.UNREACHABLE, Reason.UNNAMEABLE, Reason.NETWORK, Reason.DUPLICATE}
)  # nothing else will change these, and nobody meant them


class Leftovers(Protocol):
    """Records of an earlier life; `registrar.orphans.Orphans` is one."""

    async def bury(self, engine: Engine, ended: Collection[str]) -> int:
        """Delete those of containers that have gone or `ended`. Raises RegistryError and DockerError."""


@dataclass(frozen=True, slots=True)
class Office:
    """What depends on who the daemon is: where records are kept, what they are called, what was left there."""

    records: Records
    conventions: Conventions
    leftovers: Leftovers


class HostAgent:
    """Runs by `run()`. `open_office` is called once, when the daemon told who it is.

    `views` is what is known of each container by full id, `looked` what decides of its last inspection, `wanted` what
    follows, `held` what etcd confirmed, by key;
    `records` are the ids those stand under. `denied` says why etcd will not let us write.
    """

    def __init__(
        self,
        engine: Engine,
        open_office: Callable[[EngineInfo], Awaitable[Office]],
        *,
        advertise: IPAddress | None = None,
        route: Callable[[], Awaitable[IPAddress | None]],
        resync: float = 30.0,
        verify: Verify = Verify.NO,
    ) -> None:
        self.views: dict[str, HostView] = {}
        self.looked: dict[str, Mapping[str, Any]] = {}
        self.wanted = Wanted()
        self.held: dict[Key, Instance] = {}
        self.records: dict[Key, str] = {}
        self.counters: Counter[str] = Counter()
        self.denied: str | None = None
        self.inventory = Inventory(engine, self, resync=resync, before_list=self._prepare)
        self._engine = engine
        self._open_office = open_office
        self._office: Office | None = None
        self._whereabouts = Whereabouts(engine, advertise, route)
        self._told: dict[Key, Instance] = {}  # the last wishes that the records heard, confirmed or not
        self._unconfirmed: dict[Key, Action] = {}
        self._port_looks: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self.doors = Doors(verify, self._changed.set, self._stands)
        self._explained: dict[str, Reason] = {}

    @property
    def host(self) -> Host:
        """What is known of this machine."""
        return self._whereabouts.host

    @property
    def conventions(self) -> Conventions | None:
        """What instances are called; None until the daemon told who it is."""
        return None if self._office is None else self._office.conventions

    @property
    def superseded(self) -> Collection[Key]:
        """The records that another registrar of this host has taken over."""
        return () if self._office is None else self._office.records.superseded

    @property
    def settled(self) -> bool:
        """Whether every container is known and the registry agrees."""
        return self.inventory.known.is_set() and not steps(self.wanted.instances, self.held)

    @property
    def seen(self) -> asyncio.Event:
        """Set once every container is known."""
        return self.inventory.known

    @property
    def standing(self) -> tuple[str, ...]:
        """The records that etcd confirmed, as `service/id`."""
        return tuple(f"{key[0]}/{self.records[key]}" for key in self.held)

    async def run(self) -> None:
        """Endless; ends by being cancelled."""
        async with background(self.inventory.run, self._write, self._bury, self.doors.run):
            await asyncio.Event().wait()

    # What the inventory tells

    def heard(self, event: ContainerEvent) -> None:
        """See `ambnet.inventory.Observer`."""
        if (view := self.views.get(event.container)) is not None:
            after = hear(view, event, time.monotonic())
            if after != view:
                self.views[event.container] = after
                self._changed.set()

    def saw(self, container: str, inspected: Mapping[str, Any] | None) -> None:
        """See `ambnet.inventory.Observer`."""
        if inspected is None:
            self.views.pop(container, None)
            self.looked.pop(container, None)
            self._port_looks.pop(container, None)
        elif self._office is not None:  # else it is looked at again, after the list that is about to come
            found = find(inspected, self._office.conventions, self._whereabouts.host)
            self.looked[container] = essence(inspected)
            self.views[container] = seen(self.views.get(container, View()), inspected, found)
            pending = any(refusal.reason is Reason.PORT_PENDING for refusal in found.refusals)
            self._port_looks[container] = self._port_looks[container] + 1 if pending else 0
            if 0 < self._port_looks[container] <= PORT_LOOKS:
                self.inventory.look(container, PORT_PAUSE)
        self._changed.set()

    def listed(self, containers: Mapping[str, str]) -> None:
        """See `ambnet.inventory.Observer`."""

    async def _prepare(self) -> None:
        """Learn once who the daemon is, and before each list how this host is reached."""
        await self._whereabouts.refresh()
        if self._office is None:
            self._office = await self._open_office(await self._engine.info())
        if not self._whereabouts.known:
            asyncio.get_running_loop().call_later(ROUTE_AGAIN, self.inventory.relist)

    # What follows

    async def _write(self) -> None:
        await self.inventory.known.wait()  # who comes second in a list may have the older claim to a key
        delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while True:
            await self._until_changed()
            serving = settle(self.views, self._told, time.monotonic())
            self.doors.watch(serving.instances.values(), self._told)
            self.wanted = hold_back(serving, self._told, self.doors.held_back)
            self._explain()
            due = self._unconfirmed | steps(self.wanted.instances, self._told)
            errors = await self._carry_out(due)
            denied = next((error for error in errors if isinstance(error, RegistryDeniedError)), None)
            self.denied = str(denied) if denied else None
            if not errors:
                delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)
                continue
            log.debug("trying on, %d records wait: %s", len(errors), errors[0])  # the records say that they are behind
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next(delays)):
                    await self._changed.wait()
            self._changed.set()

    async def _until_changed(self) -> None:
        """Until something was seen or heard, or a container has outlived the signal to end."""
        left = next_change(self.views, time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left.values(), default=None)):
                await self._changed.wait()
        self._changed.clear()

    async def _carry_out(self, due: Mapping[Key, Action]) -> list[RegistryError]:
        """All that is due; what went wrong with any of it. Releases first: an address may have moved to another key."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def guarded(key: Key, action: Action) -> RegistryError | None:
            async with slots:
                try:
                    await self._step(key, action)
                except RegistryError as error:
                    return error
                return None

        errors: list[RegistryError | None] = []
        for do in (Do.RELEASE, Do.HOLD):
            batch = [guarded(key, action) for key, action in due.items() if action.do is do]
            errors += await asyncio.gather(*batch)
        return [error for error in errors if error is not None]

    async def _step(self, key: Key, action: Action) -> None:
        if self._office is None:
            raise IllegalStepError("a wish comes from an inspection, and the office is opened before any")
        instance = action.instance
        self.counters[action.do.value] += 1
        self._unconfirmed[key] = action
        if action.do is Do.RELEASE:
            self._told.pop(key, None)
            await self._office.records.release(*key)
            self.held.pop(key, None)
            self.records.pop(key, None)
            log.info("deregistered %s/%s: %s", *key, self._why(instance))
        else:
            self._told[key] = instance
            self.records[key] = await self._office.records.hold(instance)
            self.held[key] = instance
            if instance.takes_new:
                log.info("registered %s/%s at %s", instance.service, self.records[key], instance.address)
            else:
                log.info("draining %s/%s: its container was told to end", instance.service, self.records[key])
        self._unconfirmed.pop(key, None)

    async def _stands(self, instance: Instance) -> bool:
        return self._office is not None and await self._office.records.stands(instance)

    def _why(self, instance: Instance) -> str:
        """Why there is no such instance any more."""
        container = instance.container or ""
        refusals = self.wanted.refusals.get(container, ())
        if container not in self.views:
            return "its container is gone"
        return refusals[0].text if refusals else "it has another name now"

    def _explain(self) -> None:
        """Say once why something is not registered, as a warning where that needs somebody; what is true of all
        containers, such as that this host's address is not known, once for all of them.
        """
        standing = {refusal.text: refusal.reason for each in self.wanted.refusals.values() for refusal in each}
        for text, reason in standing.items():
            if text not in self._explained:
                log.log(logging.WARNING if reason in FOR_THE_OPERATOR else logging.DEBUG, "not registered: %s", text)
        self._explained = standing

    async def _bury(self) -> None:
        """Once all is known, what an earlier life left is put right: at once, not when its lease runs out."""
        await self.inventory.known.wait()
        delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while self._office is not None:
            ended = {container for container, view in self.views.items() if _has_ended(view)}
            try:
                self.counters["buried"] += await self._office.leftovers.bury(self._engine, ended)
            except (RegistryError, DockerError) as error:
                log.debug("records of an earlier life, if any, wait: %s", error)
                await asyncio.sleep(next(delays))
            else:
                return


def _has_ended(view: HostView) -> bool:
    refusals = view.verdict.refusals if view.verdict else ()
    return any(refusal.reason is Reason.NOT_RUNNING for refusal in refusals)
