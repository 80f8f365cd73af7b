"""List-then-watch without I/O: list answers and watch replies go in, messages and orders come out.

`Replay` holds the contents of a prefix as the replies tell them. It never forgets them on a failure: a new list is
compared with what is known, and the reader of the messages sees differences only. The rules:

- A revision is applied once and whole. Replies of pieces (`fragment`) are kept until the last; what is not newer than
  `revision` has been seen.
- A linearizable list cannot be stale. So whatever makes a stream doubtful (another cluster, an older term, a member
  behind us, compaction) leads to a new list, which is then believed, even if its revision is lower; but its readers are
  told that the past is another one (`Listed.past`). Whether a list of another cluster is to be believed, of which there
  may be one at a wrong address, is for who knows the other addresses to say (`foreign`).
- A list of one member alone is believed only if it is newer than what is known, and of the same cluster.
- A cancelled watch always leads to an order.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ambcore.history import Changed, KeyDeleted, KeyValue, Listed, Message

BROADCAST = -1  # the watch id of replies that concern every watch of a stream, and of watches that never were

BAD_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")
DENIED = ("permission denied", "PermissionDenied")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer to a list: everything under the prefix at `revision`, and which cluster in which term said so."""

    items: tuple[KeyValue, ...]
    revision: int
    cluster_id: int = 0
    term: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A WatchResponse as plain values. `cluster_id` and `term` of 0 mean that it does not say."""

    revision: int
    cluster_id: int = 0
    term: int = 0
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: tuple[KeyValue | KeyDeleted, ...] = ()


class Order(enum.Enum):
    """What to do after a reply."""

    GO_ON = "go on"
    REOPEN = "reopen"  # a new stream from `next_revision`, on another member
    REAUTHENTICATE = "reauthenticate"  # another token, then a new stream
    RELIST = "relist"
    DENIED = "denied"  # somebody has to grant the permission; try again slowly


@dataclass(frozen=True, slots=True)
class Digest:
    """What a reply came to. `stray` is the id of a watch that nobody wants: cancel it. `drift` counts what an audit
    found different from what the watch had told."""

    order: Order = Order.GO_ON
    why: str = ""
    message: Message | None = None
    stray: int | None = None
    drift: int = 0


QUIET = Digest()


class Replay:
    """The contents of a prefix (`table`), complete up to `revision`.

    `trust_progress`: replies without events move `revision` on. Leave it off for servers older than 3.4.25 or 3.5.8,
    which may report progress before they have sent all that happened.
    """

    def __init__(self) -> None:
        self.table: dict[bytes, KeyValue] = {}
        self.revision = 0
        self.past = 0
        self.trust_progress = False
        self._floor = 0  # the revision that was reached in an earlier life
        self._cluster_id = 0
        self._term = 0
        self._watch_id: int | None = None
        self._pieces: list[KeyValue | KeyDeleted] = []
        self._touched: set[bytes] | None = None  # since an audit began, as long as it goes on
        self._audit: Snapshot | None = None
        self._audit_from = 0

    @property
    def next_revision(self) -> int:
        """Where the next stream has to start."""
        return self.revision + 1

    @property
    def watching(self) -> bool:
        """Whether the current stream has confirmed its watch."""
        return self._watch_id is not None

    def listed(self, snapshot: Snapshot) -> Listed:
        """Believe a list."""
        if self.foreign(snapshot) or snapshot.term < self._term or snapshot.revision < max(self.revision, self._floor):
            self.past += 1
        self.table = {item.key: item for item in snapshot.items}
        self.revision, self._cluster_id, self._term = snapshot.revision, snapshot.cluster_id, snapshot.term
        self._floor = 0
        return self.contents()

    def foreign(self, snapshot: Snapshot) -> bool:
        """Whether a list is of another cluster than what is known."""
        return bool(snapshot.cluster_id and self._cluster_id and snapshot.cluster_id != self._cluster_id)

    def newer(self, snapshot: Snapshot) -> bool:
        """Whether a list that may be stale tells more than is known."""
        behind = snapshot.term < self._term or snapshot.revision < max(self.revision, self._floor)
        return not behind and not self.foreign(snapshot)

    def expect(self, snapshot: Snapshot) -> None:
        """Know how far an earlier life has seen, without believing what it saw."""
        self._floor, self._cluster_id, self._term = snapshot.revision, snapshot.cluster_id, snapshot.term

    def contents(self) -> Listed:
        """All that is known, as a list."""
        return Listed(tuple(self.table.values()), self.revision, self.past)

    def snapshot(self) -> Snapshot:
        """All that is known, with who said it."""
        return Snapshot(tuple(self.table.values()), self.revision, self._cluster_id, self._term)

    def opened(self) -> None:
        """A new stream begins: pieces and audits of the old one are void."""
        self._watch_id, self._audit = None, None
        self._pieces, self._touched = [], None
        self.trust_progress = False

    def begin_audit(self) -> None:
        """A list is about to be asked for, to compare with the table."""
        self._touched, self._audit = set(), None
        self._audit_from = self.revision

    def audit(self, snapshot: Snapshot) -> bool:
        """The list that was asked for; it is compared once the stream has reached its revision. False if it says
        nothing of what the stream tells: another cluster gave it, or one that has lost its past.
        """
        usable = snapshot.revision >= self._audit_from and not self.foreign(snapshot)
        self._audit = snapshot if usable else None
        return usable

    def digest(self, reply: Reply) -> Digest:
        """Take a reply of the current stream."""
        if reply.cluster_id and self._cluster_id and reply.cluster_id != self._cluster_id:
            return Digest(Order.RELIST, "another cluster answers")
        if reply.term and reply.term < self._term:
            return Digest(Order.RELIST, "a member with an older term answers")
        self._term = max(self._term, reply.term)
        if reply.canceled:
            mine = reply.watch_id in {self._watch_id, BROADCAST} or reply.created
            return _cancelled(reply) if mine else QUIET
        if reply.created and self._watch_id is None:
            self._watch_id = reply.watch_id
            behind = reply.revision < self.revision
            return Digest(Order.RELIST, f"its revision {reply.revision} is before {self.revision}") if behind else QUIET
        if reply.watch_id not in {self._watch_id, BROADCAST}:
            return Digest(stray=reply.watch_id)
        if reply.fragment:
            self._pieces += reply.events
            return QUIET
        return self._events(reply) if reply.events else self._progress(reply)

    def _progress(self, reply: Reply) -> Digest:
        """A sign of life. One that was asked for may tell an older revision than the event before it: etcd reads the
        revision first and queues the answer later."""
        if self._pieces:
            return QUIET
        if self.trust_progress:
            self.revision = max(self.revision, reply.revision)
        return self._audited(reply.revision, QUIET)

    def _events(self, reply: Reply) -> Digest:
        events, self._pieces = [*self._pieces, *reply.events], []
        fresh = sorted((event for event in events if event.revision > self.revision), key=lambda event: event.revision)
        if not fresh:
            return self._audited(self.revision, QUIET)
        for event in fresh:
            if self._touched is not None:
                self._touched.add(event.key)
            if isinstance(event, KeyDeleted):
                self.table.pop(event.key, None)
            else:
                self.table[event.key] = event
        self.revision = fresh[-1].revision
        return self._audited(self.revision, Digest(message=Changed(tuple(fresh), self.revision)))

    def _audited(self, reached: int, digest: Digest) -> Digest:
        """Compare with the list of an audit when the stream has `reached` its revision.

        The header of a reply with events is no measure of that: it may be ahead of what was sent. Keys that changed
        meanwhile are left out, since the list may show them before or after.
        """
        audit = self._audit
        if audit is None or digest.order is not Order.GO_ON or reached < audit.revision:
            return digest
        touched = self._touched or set()
        self._audit = self._touched = None
        truth = {item.key: item for item in audit.items}
        drifted = {key for key in (truth.keys() | self.table.keys()) - touched if truth.get(key) != self.table.get(key)}
        for key in drifted:
            if key in truth:
                self.table[key] = truth[key]
            else:
                del self.table[key]
        return Digest(message=self.contents(), drift=len(drifted)) if drifted else digest


def _cancelled(reply: Reply) -> Digest:
    """Which way out of a cancelled watch; the reasons are etcd's error texts."""
    why = reply.cancel_reason or "the server cancelled the watch"
    if reply.compact_revision > 0 or "compacted" in why:
        return Digest(Order.RELIST, f"compacted up to revision {reply.compact_revision}")
    if any(text in why for text in BAD_TOKEN):
        return Digest(Order.REAUTHENTICATE, why)
    if any(text in why for text in DENIED):
        return Digest(Order.DENIED, why)
    return Digest(Order.REOPEN, why)


def range_end(prefix: bytes) -> bytes:
    """The first key after all that start with `prefix`; `\\0` ("no end") when there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else b"\x00"
