"""Hold one lease for the life of a process, and say when it was lost.

The heartbeat is a keep-alive every third of the TTL, which changes no key: a steady fleet causes no watch event. A
lease is lost only when etcd says so; silence makes it suspect, and the same one is tried again, since a new leader
gives every lease its whole TTL anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ambcore import states
from ambcore.backoff import backoff
from ambcore.errors import LeaseLostError, RegistryDeniedError, RegistryError, RegistryUnavailableError
from ambcore.states import LeaseEvent
from ambcore.strangers import Strangers
from ambnet.etcd import Etcd
from ambnet.etcd.protocol import rpc
from ambnet.etcd.stream import Stream
from ambnet.saying import Saying

log = logging.getLogger("lease")

FIRST_PAUSE, LAST_PAUSE = 0.05, 0.5  # before a new stream; a lease has no time to lose
FIRST_DENIED_PAUSE, LAST_DENIED_PAUSE = 1.0, 5.0  # no longer, or a denial taken back in time would cost the lease
REVOKE_SECONDS = 1.0


class LeaseKeeper:
    """An async context manager that has a lease granted and keeps it alive.

    `lease` is its id, 0 while there is none; `ttl` is what the server granted. `on_new_lease(id)` is called after every
    grant, and `on_doubt(sure)` when etcd may have lost what was written: it was away, or, `sure`, answers from another
    past than before: a restored cluster may know the lease and not our records. For status and metrics: `state`,
    `grants`, `last_error`. `quiet`: nothing depends on it that an operator would act for, so that what becomes of it is
    for debugging.
    """

    def __init__(self, etcd: Etcd, ttl: int, *, quiet: bool = False) -> None:
        self.state = states.Lease.NONE
        self.lease = 0
        self.ttl = ttl
        self.grants = 0
        self.last_error: str | None = None
        self.on_new_lease: Callable[[int], None] = lambda _: None
        self.on_doubt: Callable[[bool], None] = lambda _: None
        self._etcd = etcd
        self._wanted_ttl = ttl
        self._quiet = quiet
        self._renewed = time.monotonic()
        self._seen = (0, 0)  # the cluster and the revision of the last answer
        self._strangers = Strangers()
        self._doubted = False  # somebody was told that the lease is gone
        self._usable = asyncio.Event()
        self._saying = Saying(log)
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._calm()

    async def __aenter__(self) -> Self:
        if not self._quiet:
            self._etcd.comfort.add(f"records last as long as their lease, {self.ttl} s, and come back with etcd")
        self._task = asyncio.create_task(self._run(), name="lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(revoke=False)

    async def close(self, revoke: bool) -> None:
        """Stop renewing. `revoke`: take its keys back now, within a second; otherwise the TTL will.

        They are deleted while the lease lives on for the rest of its TTL, empty: so a reader can tell that from a lease
        that ended by itself. Closing twice is fine; the first time counts.
        """
        self._step(LeaseEvent.CLOSE)
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        lease, self.lease = self.lease, 0
        if revoke and lease:
            try:
                async with asyncio.timeout(REVOKE_SECONDS):
                    await self._etcd.empty(lease, REVOKE_SECONDS)
            except (RegistryError, TimeoutError) as error:
                text = "lease %x could not be taken back, it runs out by itself in %d s: %s"
                log.log(self._level(logging.WARNING), text, lease, self.ttl, error)

    @property
    def missing(self) -> str | None:
        """Why there is no lease; None while there is one."""
        return None if self.lease else f"there is no lease: {self.last_error or 'etcd has not answered yet'}"

    async def held(self, within: float) -> int:
        """The lease's id, waiting for one if need be. Raises RegistryUnavailableError after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while not self.lease or self._doubted:
                    self._usable.clear()
                    await self._usable.wait()
        except TimeoutError:
            raise RegistryUnavailableError(self.missing or "the lease is said to be gone") from None
        return self.lease

    def lost(self, lease: int) -> None:
        """Etcd told somebody else that this lease is gone: it is asked anew, and `held` waits for what it says.

        It may have been another cluster that told so.
        """
        if lease == self.lease and lease:
            self._doubted = True
            stream, self._stream = self._stream, None
            if stream is not None:
                stream.abandon()

    # The life of a lease

    async def _run(self) -> None:
        while True:
            try:
                if not self.lease:
                    await self._grant()
                await self._keep()
            except LeaseLostError as error:
                self._gone(str(error))
            except RegistryDeniedError as error:
                self._trouble("denied", logging.ERROR, error)
                await asyncio.sleep(next(self._denied_pauses))
            except RegistryError as error:
                self._trouble("lost", logging.WARNING, error)
                await asyncio.sleep(next(self._pauses))
            except Exception as error:  # noqa: BLE001 - a defect of ours is said, but must not end the heartbeat
                log.critical("unforeseen, while holding lease %x: %r", self.lease, error)
                await asyncio.sleep(LAST_PAUSE)

    async def _grant(self) -> None:
        self.lease, self.ttl = await self._etcd.grant(self._wanted_ttl)
        self.grants += 1
        self._step(LeaseEvent.GRANTED)
        self._renewed = time.monotonic()
        self._calm()
        self._say("held", logging.INFO, "lease %x granted for %d s", self.lease, self.ttl)
        self._usable.set()
        self.on_new_lease(self.lease)

    async def _keep(self) -> None:
        """Renew until something ends it; raises, unless that was `lost`, to have it asked anew."""
        third = self.ttl / 3
        async with await self._etcd.open("lease") as stream:
            self._stream = stream
            try:
                while True:
                    await stream.send(rpc.LeaseKeepAliveRequest(ID=self.lease))
                    reply = await stream.receive(third)
                    if reply is None:
                        raise stream.fail(RegistryUnavailableError(f"no answer to a keep-alive for {third:.1f} s"))
                    self._meet(stream, reply.header.cluster_id)
                    if self.last_error is not None:
                        self.on_doubt(False)
                    self._compare(reply.header.cluster_id, reply.header.revision)
                    self._answered(reply.ID, reply.TTL)
                    if await stream.receive(third) is not None:
                        raise stream.fail(RegistryUnavailableError("a keep-alive was answered twice"))
            except RegistryUnavailableError:
                if self._stream is stream:
                    raise
            finally:
                self._stream = None

    def _meet(self, stream: Stream, cluster: int) -> None:
        """That another cluster does not know our lease says nothing, until it is believed to be ours: see `Strangers`.

        Raises RegistryUnavailableError until then.
        """
        known = self._seen[0] in {0, cluster}
        if not known and not self._strangers.believed(stream.url, self._etcd.members, time.monotonic()):
            raise stream.fail(RegistryUnavailableError("another cluster answers there"))
        self._strangers.forget()

    def _answered(self, lease: int, ttl: int) -> None:
        self._etcd.answered()
        if ttl <= 0 or lease != self.lease:
            raise LeaseLostError("etcd does not know it any more")
        self._renewed = time.monotonic()
        self._doubted = False
        self._usable.set()
        self._step(LeaseEvent.RENEWED)
        self.last_error = None
        self._calm()
        self._say("held", logging.INFO, "lease %x is renewed again", self.lease)

    def _compare(self, cluster: int, revision: int) -> None:
        """A member that lags behind the others gives reason to doubt as well, which costs a list and no more."""
        before, self._seen = self._seen, (cluster, revision)
        if before[0] and (cluster != before[0] or revision < before[1]):
            self.on_doubt(True)

    def _gone(self, why: str) -> None:
        if self.lease:
            self._say("gone", logging.WARNING, "lease %x is gone: %s", self.lease, why)
            self.lease, self._doubted = 0, False
            self._step(LeaseEvent.GONE)

    def _trouble(self, state: str, level: int, error: RegistryError) -> None:
        self.last_error = str(error)
        if self.state is states.Lease.HELD and time.monotonic() - self._renewed > self.ttl:
            self._step(LeaseEvent.SILENT)
        if self._etcd.connected:
            what = f"lease {self.lease:x}" if self.lease else "no lease"
            self._say(state, level, "%s: %s; trying again", what, error)

    def _say(self, state: str, level: int, text: str, *arguments: object) -> None:
        self._saying.say(state, self._level(level), text, *arguments)

    def _level(self, level: int) -> int:
        return logging.DEBUG if self._quiet else level

    def _step(self, event: LeaseEvent) -> None:
        self.state = states.step(states.LEASE, self.state, event)

    def _calm(self) -> None:
        """All is well: the next failure is met with short pauses again."""
        self._pauses = backoff(FIRST_PAUSE, LAST_PAUSE, random.random)
        self._denied_pauses = backoff(FIRST_DENIED_PAUSE, LAST_DENIED_PAUSE, random.random)
