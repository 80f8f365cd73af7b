"""Made-up lives of an etcd prefix and of the streams that tell of it, with everything that can go wrong on the way.

A `Tape` of bytes makes all choices, so that hypothesis finds the shortest one that shows a defect. At its end all is
calm: every stream tells the rest and stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ambcore.history import KeyDeleted, KeyValue
from ambcore.replay import BROADCAST, Reply, Snapshot

PREFIX = b"/s/"
KEYS = tuple(PREFIX + name for name in (b"a", b"b", b"c", b"d", b"e"))
REASONS = (
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: no leader",
    "",
    "somebody tripped over the cable",
)


class Tape:
    """Choices, one a byte; zeros at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def pick(self, count: int) -> int:
        """A number below `count`."""
        if self.over:
            return 0
        self._at += 1
        return self._data[self._at - 1] % count


class World:
    """The true contents, and all that happened to them since the last compaction."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.contents: dict[bytes, KeyValue] = {}
        self.past: dict[int, tuple[KeyValue | KeyDeleted, ...]] = {}
        self.revision = 1
        self.compacted = 0
        self.cluster_id = 7
        self.term = 3

    def write(self) -> None:
        """One transaction: one to three keys, put or deleted."""
        self.revision += 1
        events: list[KeyValue | KeyDeleted] = []
        first = self.tape.pick(len(KEYS))
        for key in (KEYS + KEYS)[first : first + 1 + self.tape.pick(3)]:
            if key in self.contents and self.tape.pick(2):
                del self.contents[key]
                events.append(KeyDeleted(key, self.revision))
            else:
                item = KeyValue(key, b"v%d" % self.revision, self.revision)
                self.contents[key] = item
                events.append(item)
        self.past[self.revision] = tuple(events)

    def compact(self) -> None:
        self.compacted = max(self.compacted, self.revision - self.tape.pick(2))
        self.past = {revision: events for revision, events in self.past.items() if revision > self.compacted}

    def replace_cluster(self) -> None:
        """A cluster restored from a snapshot, say: another id, less history, other contents."""
        self.cluster_id += 1
        self.term = 2 + self.tape.pick(5)
        self.revision = 1 + self.tape.pick(4)
        self.contents, self.past, self.compacted = {}, {}, 0
        self.write()

    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(self.contents.values()), self.revision, self.cluster_id, self.term)

    def reply(self, watch_id: int = 0) -> Reply:
        return Reply(self.revision, self.cluster_id, self.term, watch_id)

    def events(self, first: int, last: int) -> tuple[KeyValue | KeyDeleted, ...]:
        return tuple(event for revision in range(first, last + 1) for event in self.past.get(revision, ()))


def stream(world: World, start: int) -> Iterator[Reply]:
    """What a server says on one watch stream from `start`; its end is a broken connection."""
    return _Stream(world, start).run()


class _Stream:
    def __init__(self, world: World, start: int) -> None:
        self.world, self.tape = world, world.tape
        self.sent = start - 1
        self.id = self.tape.pick(5)
        self.broken = False

    def run(self) -> Iterator[Reply]:
        if self.tape.pick(12) == 1:
            reason = REASONS[self.tape.pick(len(REASONS))]
            yield replace(self.world.reply(BROADCAST), created=True, canceled=True, cancel_reason=reason)
            return
        yield replace(self.world.reply(self.id), created=True)
        if self.sent < self.world.compacted:
            yield replace(self.world.reply(self.id), canceled=True, compact_revision=self.world.compacted)
            return
        choices = (
            *(self.write, self.write, self.write, self.some, self.some, self.pieces, self.again, self.shuffled),
            *(self.progress, self.strange, self.strange_cancel, self.cancel, self.older_term, self.compaction),
            self.other_cluster,
        )
        while not self.tape.over:
            choice = self.tape.pick(len(choices) + 1)
            if choice == len(choices):
                return
            for reply in choices[choice]():
                yield reply
                if reply.canceled and reply.watch_id == self.id:
                    return
            if self.broken:
                return
        yield from self.rest()

    def due(self, last: int) -> Reply:
        events = self.world.events(self.sent + 1, last)
        self.sent = last
        return replace(self.world.reply(self.id), events=events)

    def rest(self) -> Iterator[Reply]:
        if self.sent < self.world.compacted:
            yield replace(self.world.reply(self.id), canceled=True, compact_revision=self.world.compacted)
        elif self.sent < self.world.revision:
            yield self.due(self.world.revision)

    def write(self) -> Iterator[Reply]:
        self.world.write()
        return iter(())

    def some(self) -> Iterator[Reply]:
        if self.world.compacted <= self.sent < self.world.revision:
            yield self.due(min(self.world.revision, self.sent + 1 + self.tape.pick(3)))

    def pieces(self) -> Iterator[Reply]:
        """One reply in several; the connection may break between two."""
        for whole in self.rest():
            for at, event in enumerate(whole.events):
                yield replace(whole, events=(event,), fragment=at < len(whole.events) - 1)
                match self.tape.pick(8):
                    case 1:
                        self.broken = True
                        return
                    case 2 if at < len(whole.events) - 1:
                        yield self.world.reply(BROADCAST)

    def again(self) -> Iterator[Reply]:
        """Some events that were sent already."""
        first = max(1, self.sent - self.tape.pick(4))
        last = max(first, self.sent - self.tape.pick(4))
        if first <= self.sent and (events := self.world.events(first, last)):
            yield replace(self.world.reply(self.id), events=events)

    def shuffled(self) -> Iterator[Reply]:
        """New events behind old ones, in one reply."""
        for whole in self.rest():
            old = self.world.events(max(1, self.sent - len(whole.events) - 2), self.sent)
            yield replace(whole, events=tuple(reversed(old)))

    def progress(self) -> Iterator[Reply]:
        yield from self.rest()
        reply = self.world.reply(BROADCAST if self.tape.pick(2) else self.id)
        yield replace(reply, revision=reply.revision - self.tape.pick(2))

    def strange(self) -> Iterator[Reply]:
        event = KeyValue(KEYS[0], b"of another watch", self.world.revision + 50)
        yield replace(self.world.reply(self.id + 1), events=(event,))

    def strange_cancel(self) -> Iterator[Reply]:
        yield replace(self.world.reply(self.id + 1), canceled=True, cancel_reason="not yours")

    def cancel(self) -> Iterator[Reply]:
        reason = REASONS[self.tape.pick(len(REASONS))]
        yield replace(self.world.reply(self.id), canceled=True, cancel_reason=reason)

    def older_term(self) -> Iterator[Reply]:
        yield replace(self.world.reply(self.id), term=self.world.term - 1)

    def compaction(self) -> Iterator[Reply]:
        self.world.compact()
        return iter(())

    def other_cluster(self) -> Iterator[Reply]:
        self.world.replace_cluster()
        self.sent = 0
        yield self.world.reply(self.id)
