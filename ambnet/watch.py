"""List a prefix, then watch it, for ever: every failure leads to a new stream or a new list.

What a reply means is decided in `ambcore.replay`; here are the stream, the clock and the retries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from ambcore import states
from ambcore.backoff import backoff
from ambcore.errors import (
    CompactedError,
    RegistryDeniedError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnavailableError,
)
from ambcore.history import KeyDeleted, KeyValue, Message
from ambcore.pending import Pending
from ambcore.remembered import Remembered
from ambcore.replay import Order, Replay, Reply, Snapshot, range_end
from ambcore.states import WatchEvent
from ambcore.strangers import Strangers
from ambnet.daemon import cancel
from ambnet.etcd import Etcd
from ambnet.etcd.errors import TokenRejectedError
from ambnet.etcd.protocol import rpc
from ambnet.etcd.stream import Stream
from ambnet.saying import Saying

log = logging.getLogger("watch")

RELIST = 300.0  # seconds between audits, +- 20 %
SPREAD = 30.0  # seconds in which all watches that were broken compare what they know
PROBE = 10.0  # seconds of silence before the stream is asked for a sign of life; etcd's own is every 10 minutes
PATIENCE = 5.0  # seconds to wait for the sign; a watcher that is not in step yet may leave one question unanswered
MISSES = 2
RECALL = 2.0  # seconds for etcd to tell before an earlier life's knowledge is used: time to ask two members
PAUSES = 0.05, 3.0  # seconds before a new stream: the first and the longest
DENIED_PAUSES = 1.0, 30.0
PROGRESS_SINCE = {(3, 4): 25, (3, 5): 8}  # the patch from which a progress reply can be believed
EVENTS_SINCE = {(3, 4): 36, (3, 5): 18}  # the patch from which no event is known to be lost


class PrefixWatch:
    """An async context manager and an async iterator of messages, a Listed first.

    Messages that nobody has fetched are merged. The iteration ends when the watch is closed. `settled` is set once the
    contents are known, or that we may not know them: `on_denied` is called then, else it is said here. For status and
    metrics: `state`, `revision`, `audits`, `drift_total`, `restarts`, `stale` (the contents are one member's, without a
    majority), `recalled` (they are an earlier life's), `denied` (somebody has to act), `last_error` and `age()`.

    `remembered` is what an earlier life knew: the contents while etcd does not tell, RECALL seconds after the start.
    `told` counts what was delivered.
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        *,
        relist: float = RELIST,
        probe: float = PROBE,
        patience: float = PATIENCE,
        pauses: tuple[float, float] = PAUSES,
        on_denied: Callable[[], None] | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        self.state = states.Watch.LISTING
        self.told = 0
        self.recalled = False
        self.remembered = remembered
        self.drift_total = 0
        self.restarts = 0
        self.audits = 0
        self.stale = False
        self.denied = False
        self.last_error: str | None = None
        self.settled = asyncio.Event()
        self._on_denied = on_denied
        self._etcd = etcd
        self._prefix = prefix.encode()
        self._relist, self._probe, self._patience = relist, probe, patience
        self._pause_range = pauses
        self._replay = Replay()
        self._pending = Pending(self._replay.contents)
        self._news = asyncio.Event()
        self._listed = False
        self._strangers = Strangers()
        self._proved: float | None = None
        if remembered is not None:
            self._replay.expect(remembered.snapshot)
            self._proved = time.monotonic() - remembered.age
        self._recall_timer: asyncio.TimerHandle | None = None
        self._audit_at = time.monotonic() + self._audit_pause()
        self._saying = Saying(log)
        self._calm()
        self._task: asyncio.Task[None] | None = None

    @property
    def revision(self) -> int:
        """The contents are complete up to here; 0 before the first list."""
        return self._replay.revision

    def age(self) -> float | None:
        """Seconds since etcd last proved that the contents are current, to us or to an earlier life; None if never."""
        return None if self._proved is None else time.monotonic() - self._proved

    def snapshot(self) -> Snapshot:
        """All that is known; before the first list nothing."""
        return self._replay.snapshot()

    async def __aenter__(self) -> Self:
        self._etcd.comfort.add("what is known stands")
        self._task = asyncio.create_task(self._run(), name=f"watch {self._prefix.decode()}")
        self._task.add_done_callback(lambda _: self._news.set())
        if self.remembered is not None:
            self._recall_timer = asyncio.get_running_loop().call_later(RECALL, self._recall, self.remembered)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._step(WatchEvent.CLOSE)
        if self._recall_timer is not None:
            self._recall_timer.cancel()
        if self._task is not None:
            await cancel(self._task)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while not self._pending:
            if self._task is None or self._task.done():
                self._raise_defect()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._pending.take()

    def _raise_defect(self) -> None:
        """An error that nobody foresaw has ended the task: the reader must hear of it."""
        if self._task is not None and not self._task.cancelled() and (error := self._task.exception()):
            raise error

    # The life of the watch

    async def _run(self) -> None:
        must_list = True
        while True:
            try:
                if must_list:
                    await self._list()
                    must_list = False
                await self._follow()
            except (CompactedError, RegistryRefusedError) as error:
                must_list = True
                self._lost(WatchEvent.COMPACTED, "relist", logging.WARNING, error)
                await asyncio.sleep(next(self._pauses))
            except RegistryDeniedError as error:
                self._lost(WatchEvent.LOST, "denied", logging.ERROR, error)
                await asyncio.sleep(next(self._denied_pauses))
            except RegistryError as error:
                self._lost(WatchEvent.LOST, "lost", logging.WARNING, error)
                await asyncio.sleep(next(self._pauses))

    async def _list(self) -> None:
        try:
            snapshot = await self._etcd.snapshot(self._prefix)
        except RegistryUnavailableError:
            if not self._listed:
                await self._list_stale()
            raise
        self._meet(snapshot)
        before = self._replay.past
        self._deliver(self._replay.listed(snapshot))
        if self._replay.past != before:
            log.warning("etcd has another past than it had: %s was listed anew", self._prefix.decode())
        self._listed = True
        self.stale = self.recalled = False
        self._proved = time.monotonic()
        self._audit_at = time.monotonic() + self._audit_pause()
        self._step(WatchEvent.LISTED)

    async def _list_stale(self) -> None:
        """Without a majority at the start, what one member knows is better than nothing."""
        try:
            snapshot = await self._etcd.snapshot(self._prefix, stale=True)
        except RegistryError:
            return
        if self._replay.newer(snapshot) and snapshot.revision != self._replay.revision:
            self._deliver(self._replay.listed(snapshot))
            self.stale, self.recalled = True, False
            log.warning("etcd has no majority: %s as one member knows it", self._prefix.decode())

    def _meet(self, snapshot: Snapshot) -> None:
        """What is not our cluster may stand at a wrong address: raises RegistryUnavailableError until believed."""
        if not self._replay.foreign(snapshot):
            self._strangers.forget()
            return
        if not self._strangers.believed(self._etcd.endpoint, self._etcd.members, time.monotonic()):
            error = RegistryUnavailableError("another cluster answers there")
            self._etcd.avoid(error)
            raise error
        self._strangers.forget()

    def _recall(self, remembered: Remembered) -> None:
        """Etcd has not told in time: go on with what an earlier life knew."""
        if self._replay.revision or self.state is states.Watch.CLOSED:
            return
        self._deliver(self._replay.listed(remembered.snapshot))
        self.recalled = True
        text = "etcd has not told of %s yet: going on with what was known %.0f s ago, %d records"
        log.warning(text, self._prefix.decode(), self.age(), len(remembered.snapshot.items))

    async def _follow(self) -> None:
        """Watch until something ends it; always raises."""
        self._replay.opened()
        async with await self._etcd.open("watch") as stream:
            await stream.send(self._create_request())
            beside = asyncio.create_task(self._beside(stream))
            try:
                await self._read(stream)
            finally:
                await cancel(beside)

    async def _read(self, stream: Stream) -> None:
        misses = 0
        while True:
            reply = await stream.receive(self._patience if misses else self._probe)
            if reply is not None:
                misses = 0
                self._proved = time.monotonic()
                self._etcd.answered()
                await self._take(stream, _plain(reply))
            elif misses == MISSES or not self._replay.watching:
                raise stream.fail(RegistryUnavailableError("the watch is silent"))
            else:
                misses += 1
                await stream.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    async def _take(self, stream: Stream, reply: Reply) -> None:
        digest = self._replay.digest(reply)
        if digest.drift:
            self.drift_total += digest.drift
            log.error("%d keys under %s had drifted from etcd", digest.drift, self._prefix.decode())
        if digest.message is not None:
            self._deliver(digest.message)
        if digest.stray is not None:
            await stream.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=digest.stray)))
        match digest.order:
            case Order.GO_ON if reply.created:
                self._watching(stream)
            case Order.GO_ON:
                self._calm()  # not before: a stream may be confirmed each time, and break with what it has to tell
            case Order.RELIST:
                raise CompactedError(digest.why)
            case Order.DENIED:
                raise RegistryDeniedError(digest.why)
            case Order.REAUTHENTICATE:
                raise stream.fail(TokenRejectedError(digest.why))
            case Order.REOPEN:
                raise stream.fail(RegistryUnavailableError(digest.why))

    def _watching(self, stream: Stream) -> None:
        if self.state is states.Watch.BROKEN:
            self._step(WatchEvent.RESUMED)
        self.denied = False
        self.last_error = None
        self._saying.say(
            "watching", logging.INFO, "watching %s at %s from revision %d", self._prefix.decode(), stream.url,
            self._replay.next_revision,
        )  # fmt: skip

    async def _beside(self, stream: Stream) -> None:
        """What goes on beside the reading: ask for the server's version, then audit the contents now and then."""
        version = await self._etcd.server_version()
        self._replay.trust_progress = version is not None and _at_least(version, PROGRESS_SINCE)
        old = version is not None and not _at_least(version, EVENTS_SINCE)
        if old and version is not None:
            _warn_of_old(version)
        if self.restarts:  # an old one may leave out a deletion that compaction has reached; any may have been restored
            soon = 0.0 if old else random.uniform(0, SPREAD)  # noqa: S311
            self._audit_at = min(self._audit_at, time.monotonic() + soon)
        while True:
            await asyncio.sleep(self._audit_at - time.monotonic())
            self._audit_at = time.monotonic() + self._audit_pause()
            try:
                await self._audit(stream)
            except RegistryError as error:
                log.debug("audit of %s: %s", self._prefix.decode(), error)

    async def _audit(self, stream: Stream) -> None:
        """Have the contents compared with a list, once the stream says that it has got as far."""
        self._replay.begin_audit()
        snapshot = await self._etcd.snapshot(self._prefix)
        if not self._replay.trust_progress:  # it may say so too early: give what is under way time to arrive
            await asyncio.sleep(self._patience)
        if not self._replay.audit(snapshot):
            text = "%s has another past than the member that is watched: its list of %s is not believed"
            log.warning(text, self._etcd.endpoint, self._prefix.decode())
            return
        await stream.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
        self.audits += 1

    # Small parts

    def _create_request(self) -> Any:
        create = rpc.WatchCreateRequest(
            key=self._prefix,
            range_end=range_end(self._prefix),
            start_revision=self._replay.next_revision,
            progress_notify=True,
            fragment=True,  # what happened meanwhile may be larger than any message that is taken
        )
        return rpc.WatchRequest(create_request=create)

    def _deliver(self, message: Message) -> None:
        self.told += 1
        self._pending.add(message)
        self._news.set()
        self.settled.set()

    def _lost(self, event: WatchEvent, state: str, level: int, error: RegistryError) -> None:
        self._step(event)
        self.restarts += 1
        self.denied = isinstance(error, RegistryDeniedError)
        self.last_error = str(error)
        if not self._etcd.connected:  # that is said there
            return
        if self.denied:
            self.settled.set()
        if self.denied and self._on_denied:
            self._on_denied()
        else:
            self._saying.say(state, level, "watch of %s: %s; what is known stands", self._prefix.decode(), error)

    def _step(self, event: WatchEvent) -> None:
        self.state = states.step(states.WATCH, self.state, event)

    def _calm(self) -> None:
        """All is well: the next failure is met with short pauses again."""
        self._pauses: Iterator[float] = backoff(*self._pause_range, random.random)
        self._denied_pauses: Iterator[float] = backoff(*DENIED_PAUSES, random.random)

    def _audit_pause(self) -> float:
        return self._relist * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, hides nothing


def _plain(reply: Any) -> Reply:
    """A WatchResponse as the value that `ambcore.replay` reads."""
    header = reply.header
    return Reply(
        revision=header.revision,
        cluster_id=header.cluster_id,
        term=header.raft_term,
        watch_id=reply.watch_id,
        created=reply.created,
        canceled=reply.canceled,
        compact_revision=reply.compact_revision,
        cancel_reason=reply.cancel_reason,
        fragment=reply.fragment,
        events=tuple(map(_event, reply.events)),
    )


def _event(event: Any) -> KeyValue | KeyDeleted:
    item = event.kv
    if event.type == event.DELETE:
        return KeyDeleted(item.key, item.mod_revision)
    return KeyValue(item.key, item.value, item.mod_revision, item.lease)


def _at_least(version: tuple[int, int, int], patches: dict[tuple[int, int], int]) -> bool:
    """Whether a version has a fix whose patch per release line is given; later lines have it."""
    line, patch = version[:2], version[2]
    return line > max(patches) or patch >= patches.get(line, 1 << 30)


_warned: set[tuple[int, int, int]] = set()


def _warn_of_old(version: tuple[int, int, int]) -> None:
    if version not in _warned:
        _warned.add(version)
        text = ".".join(map(str, version))
        log.warning("etcd %s may lose watch events: 3.4.36, 3.5.18 and 3.6 do not; contents are audited", text)
