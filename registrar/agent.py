"""The agent: follows the container in Docker and makes the registry agree.

Three jobs that share one view. `_listen` hears the daemon's events, `_look` inspects the container when something may
have changed, `_write` carries out what `reconcile.plan` says; it works alone and always towards the latest wish, so
that however fast things change, the last one wins. Docker or etcd away: what is known and held stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

from ambcore.backoff import backoff
from ambcore.containers import ContainerEvent, EngineInfo, Lost, Subscribed
from ambcore.errors import DockerError, IllegalStepError, RegistryDeniedError, RegistryError
from ambcore.model import Instance, IPAddress
from ambcore.registration.essence import essence
from ambcore.registration.extract import Host, Reason, Refusal, Wish
from ambnet.daemon import background
from ambnet.dockerd import Engine
from ambnet.saying import Saying
from registrar.answers import Verify
from registrar.doors import Doors
from registrar.reconcile import Action, Do, Verdict, View, concerns, hear, next_look, plan, see, wanted
from registrar.whereabouts import Whereabouts

log = logging.getLogger("registrar")

PORT_PAUSE, PORT_LOOKS = 0.1, 3  # a start event may come before the port is mapped; then the resync is soon enough
LOOK_AGAIN = 2.0  # after a look in vain at a daemon that is there
FOR_THE_OPERATOR = frozenset(
    {Reason.UNREACHABLE, Reason.NOT_PUBLISHED, Reason.UNNAMEABLE}
)  # nothing else will change these
FIRST_RETRY, LAST_RETRY = 0.1, 3.0  # of a write that etcd did not take


class Records(Protocol):
    """Where instances are put; `ambnet.registry.Registry` is one."""

    async def hold(self, instance: Instance) -> str:
        """Keep this record; returns the id under which it stands. Raises RegistryError."""

    async def release(self, service: str, instance: str) -> None:
        """Delete a record of ours. Raises RegistryError."""

    async def stands(self, instance: Instance) -> bool:
        """Whether an earlier life of this host's left a record of it at the same address. Raises RegistryError."""

    @property
    def superseded(self) -> Collection[tuple[str, str]]:
        """Service and instance of the records that another registrar of this host has taken over."""


class Agent:
    """Runs by `run()`. `open_records` is called once, when the daemon told who it is: records bear an owner.

    `route` finds the address to advertise when the operator gave none.
    """

    def __init__(
        self,
        wish: Wish,
        engine: Engine,
        open_records: Callable[[EngineInfo], Awaitable[Records]],
        *,
        advertise: IPAddress | None = None,
        route: Callable[[], Awaitable[IPAddress | None]],
        resync: float = 30.0,
        verify: Verify = Verify.NO,
    ) -> None:
        self.view: View[Verdict] = View()
        self.looked: Mapping[str, Any] | None = None  # what decides of the last inspection
        self.held: Instance | None = None  # as etcd confirmed it
        self.record: str | None = None
        self.counters: Counter[str] = Counter()
        self.seen = asyncio.Event()  # the container was inspected: present or not, it is known
        self.denied: str | None = None  # why etcd will not let us write, which somebody must see to
        self._wish = wish
        self._engine = engine
        self._open_records = open_records
        self._records: Records | None = None
        self._told: Instance | None = None  # the last wish that the records heard, confirmed or not
        self._unconfirmed: Action | None = None
        self._whereabouts = Whereabouts(engine, advertise, route)
        self._resync = resync
        self._heard: list[ContainerEvent] = []
        self._stir = asyncio.Event()  # the container may have changed
        self._changed = asyncio.Event()  # the wish may have changed
        self.doors = Doors(verify, self._changed.set, self._stands)
        self._docker = Saying(log, "up")
        self._sight = Saying(log, "clear")
        self._explained = ""

    @property
    def wanted(self) -> Instance | Refusal | None:
        """What the registry should hold now; None while the container was never seen."""
        want = wanted(self.view, time.monotonic())
        return (self.doors.held_back(want, self._told) or want) if isinstance(want, Instance) else want

    @property
    def host(self) -> Host:
        """What is known of this machine."""
        return self._whereabouts.host

    @property
    def superseded(self) -> bool:
        """Whether another registrar of this host has taken the record over."""
        return self._records is not None and bool(self._records.superseded)

    @property
    def settled(self) -> bool:
        """Whether the container is known and the registry agrees."""
        want = self.wanted
        return want is not None and not plan(want, self.held)

    @property
    def standing(self) -> tuple[str, ...]:
        """The record that etcd confirmed, if there is one, as `service/id`."""
        return () if self.held is None else (f"{self.held.service}/{self.record}",)

    async def run(self) -> None:
        """Endless; ends by being cancelled."""
        async with background(self._listen, self._look, self._write, self.doors.run):
            await asyncio.Event().wait()

    async def _listen(self) -> None:
        async with contextlib.aclosing(self._engine.events()) as messages:
            async for message in messages:
                match message:
                    case Subscribed():
                        self._docker.say("up", logging.INFO, "docker is back at %s", self._engine.url)
                        self._stir.set()
                    case Lost(why):
                        self._docker.say("lost", logging.WARNING, "docker is away, what is registered stays: %s", why)
                    case ContainerEvent() if concerns(self.view, message, self._wish):
                        log.debug("heard %s", message)
                        self._heard.append(message)
                        self._stir.set()
                    case _:
                        pass

    async def _look(self) -> None:
        port_looks = in_vain = 0
        while True:
            again = PORT_PAUSE if 0 < port_looks <= PORT_LOOKS else LOOK_AGAIN if in_vain else self._resync
            stirred = await self._until_stirred(min(again, self._resync))
            self._listened()
            try:
                if not (stirred and self._whereabouts.known):  # it rarely changes, and an event has no time for it
                    await self._refresh_host()
                inspected = await self._engine.inspect(self._wish.container)
            except DockerError as error:
                in_vain = in_vain + 1 if self._engine.connected else 0  # else its return is an event
                if in_vain > 1:
                    text = "docker tells events, but not about %s, what is registered stays: %s"
                    self._sight.say("blind", logging.WARNING, text, self._wish.container, error)
                continue
            in_vain = 0
            self._sight.say("clear", logging.INFO, "docker tells about %s again", self._wish.container)
            self.counters["inspections"] += 1
            self.seen.set()
            self.looked = None if inspected is None else essence(inspected)
            self.view = see(self.view, inspected, self._wish, self._whereabouts.host)
            pending = isinstance(self.view.verdict, Refusal) and self.view.verdict.reason is Reason.PORT_PENDING
            port_looks = port_looks + 1 if pending else 0
            self._listened()

    async def _until_stirred(self, patience: float) -> bool:
        """Until there is something to look at (True), until a draining one has outlived its grace or patience ends."""
        due = next_look(self.view, time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience if due is None else min(due, patience)):
                await self._stir.wait()
        stirred = self._stir.is_set()
        self._stir.clear()
        return stirred

    def _listened(self) -> None:
        """Take in what was heard, and pass on the wish that follows."""
        now = time.monotonic()
        heard, self._heard = self._heard, []
        for event in heard:
            self.view = hear(self.view, event, now)
        self._changed.set()

    async def _refresh_host(self) -> None:
        """Learn once who the daemon is, and each time how this host is reached, if that is ours to find out."""
        if self._records is None:
            self._records = await self._open_records(await self._engine.info())
        await self._whereabouts.refresh()

    async def _write(self) -> None:
        delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while True:
            await self._changed.wait()
            self._changed.clear()
            serving = wanted(self.view, time.monotonic())
            told = {} if self._told is None else {(self._told.service, self._told.id): self._told}
            self.doors.watch([serving] if isinstance(serving, Instance) else [], told)
            want = self.wanted
            steps = plan(want, self._told)
            if not steps and self._unconfirmed is not None:
                steps = (self._unconfirmed,)
            self._explain(want)
            try:
                for action in steps:
                    await self._carry_out(action, want)
            except RegistryError as error:
                self.denied = str(error) if isinstance(error, RegistryDeniedError) else None
                log.debug("trying on: %s", error)  # the records themselves say that they are behind
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(next(delays)):
                        await self._changed.wait()
                self._changed.set()
                continue
            self.denied = None
            delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)

    async def _carry_out(self, action: Action, want: Instance | Refusal | None) -> None:
        if self._records is None:
            raise IllegalStepError("a wish comes from an inspection, and that opens the records first")
        instance = action.instance
        self.counters[action.do.value] += 1
        self._told = instance if action.do is Do.HOLD else None
        self._unconfirmed = action
        if action.do is Do.RELEASE:
            await self._records.release(instance.service, instance.id)
            self.held = self.record = self._unconfirmed = None
            why = want.text if isinstance(want, Refusal) else "it has another name now"
            log.info("deregistered %s/%s: %s", instance.service, instance.id, why)
            return
        self.record = await self._records.hold(instance)
        self.held, self._unconfirmed = instance, None
        if instance.takes_new:
            log.info("registered %s/%s at %s", instance.service, self.record, instance.address)
        else:
            log.info("draining %s/%s: it was told to end", instance.service, self.record)

    async def _stands(self, instance: Instance) -> bool:
        return self._records is not None and await self._records.stands(instance)

    def _explain(self, want: Instance | Refusal | None) -> None:
        """Say once why there is no record; a deregistration says so itself."""
        text = want.text if isinstance(want, Refusal) else ""
        if isinstance(want, Refusal) and self.held is None and text != self._explained:
            level = logging.WARNING if want.reason in FOR_THE_OPERATOR else logging.INFO
            log.log(level, "not registered: %s", text)
        self._explained = text
