"""What replies of a watch come to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ambcore.history import Changed, KeyDeleted, KeyValue, Listed, Message
from ambcore.pending import Pending
from ambcore.replay import BROADCAST, Order, Replay, Reply, Snapshot, range_end
from tests.support.watch_histories import Tape, World, stream

A1, A2, A3 = (KeyValue(b"/s/a", b"%d" % revision, revision) for revision in (1, 2, 3))
B5 = KeyValue(b"/s/b", b"5", 5)


class Reader:
    """A reader of messages that now and then looks into its letter box."""

    def __init__(self, replay: Replay) -> None:
        self.pending = Pending(replay.contents)
        self.contents: dict[bytes, KeyValue] = {}

    def fetch(self) -> None:
        if not self.pending:
            return
        message: Message = self.pending.take()
        if isinstance(message, Listed):
            self.contents = {item.key: item for item in message.items}
            return
        for event in message.events:
            if isinstance(event, KeyDeleted):
                self.contents.pop(event.key, None)
            else:
                self.contents[event.key] = event


def follow(world: World) -> tuple[Replay, Reader]:
    """Do what `ambnet.watch` does, until all is calm and told."""
    tape, replay = world.tape, Replay()
    reader = Reader(replay)
    must_list = True
    while True:
        calm = tape.over
        if must_list:
            reader.pending.add(replay.listed(world.snapshot()))
        must_list = False
        replay.opened()
        replay.trust_progress = bool(tape.pick(2))
        for reply in stream(world, replay.next_revision):
            digest = replay.digest(reply)
            assert digest.drift == 0, "an audit blamed a watch that had told the truth"
            if digest.message:
                reader.pending.add(digest.message)
            must_list = digest.order is Order.RELIST
            if digest.order is not Order.GO_ON:
                break
            match tape.pick(8):
                case 1 | 2:
                    reader.fetch()
                case 3:
                    replay.begin_audit()
                case 4:
                    replay.begin_audit()
                    replay.audit(world.snapshot())
        else:
            if calm:
                reader.fetch()
                return replay, reader


@settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=80))
def every_history_ends_with_the_truth(data: bytes) -> None:
    world = World(Tape(data))
    replay, reader = follow(world)
    assert replay.table == world.contents
    assert reader.contents == world.contents
    assert replay.revision <= world.revision


def test_A22_watch_fuzz(figure: Callable[[str], None]) -> None:
    """Whatever happens to streams and history, in the end the table and its reader know the truth."""
    every_history_ends_with_the_truth()
    figure("10,000 histories, at the end of each the table is the model's")


def watching(*items: KeyValue, revision: int = 1) -> Replay:
    replay = Replay()
    replay.listed(Snapshot(items, revision, cluster_id=7, term=3))
    replay.opened()
    assert replay.digest(Reply(revision, 7, 3, created=True)).order is Order.GO_ON
    return replay


def test_events_move_the_revision_to_the_last_of_them() -> None:
    """Not to the header's, which may be ahead of what was sent."""
    replay = watching(A1)
    digest = replay.digest(Reply(9, 7, 3, events=(A2, A3)))
    assert digest.message == Changed((A2, A3), 3)
    assert replay.next_revision == 4


def test_a_repeated_event_does_not_bring_a_deleted_key_back() -> None:
    replay = watching(A1)
    replay.digest(Reply(3, 7, 3, events=(A2, KeyDeleted(b"/s/a", 3))))
    assert replay.digest(Reply(3, 7, 3, events=(A2,))).message is None
    assert replay.table == {}


def test_pieces_are_one_message() -> None:
    replay = watching(A1)
    assert replay.digest(Reply(5, 7, 3, events=(A2,), fragment=True)).message is None
    assert replay.next_revision == 2
    assert replay.digest(Reply(5, 7, 3, events=(B5,))).message == Changed((A2, B5), 5)


def test_pieces_of_a_broken_stream_are_forgotten() -> None:
    replay = watching(A1)
    replay.digest(Reply(5, 7, 3, events=(A2,), fragment=True))
    replay.opened()
    replay.digest(Reply(5, 7, 3, created=True))
    assert replay.digest(Reply(5, 7, 3, events=(A3,))).message == Changed((A3,), 3)


@pytest.mark.parametrize("watch_id", [0, BROADCAST])
def test_progress_counts_only_when_it_can_be_trusted(watch_id: int) -> None:
    replay = watching(A1)
    replay.digest(Reply(8, 7, 3, watch_id))
    assert replay.next_revision == 2
    replay.trust_progress = True
    replay.digest(Reply(8, 7, 3, watch_id))
    assert replay.next_revision == 9


def test_progress_that_was_overtaken_by_an_event_is_no_reason_to_worry() -> None:
    replay = watching(A1)
    replay.trust_progress = True
    replay.digest(Reply(2, 7, 3, events=(A2,)))
    assert replay.digest(Reply(1, 7, 3)).order is Order.GO_ON
    assert replay.next_revision == 3


@pytest.mark.parametrize(
    ("reply", "order"),
    [
        (Reply(1, 8, 3), Order.RELIST),
        (Reply(1, 7, 2), Order.RELIST),
        (Reply(1, 7, 3, canceled=True, compact_revision=5), Order.RELIST),
        (Reply(1, 7, 3, canceled=True, cancel_reason="etcdserver: permission denied"), Order.DENIED),
        (Reply(1, 7, 3, canceled=True, cancel_reason="etcdserver: invalid auth token"), Order.REAUTHENTICATE),
        (Reply(1, 7, 3, canceled=True, cancel_reason="etcdserver: no leader"), Order.REOPEN),
        (Reply(1, 7, 3, canceled=True), Order.REOPEN),
    ],
)
def test_what_ends_a_watch_leads_to_an_order(reply: Reply, order: Order) -> None:
    digest = watching(A1).digest(reply)
    assert digest.order is order
    assert digest.why


def test_a_watch_that_never_was_is_an_order_too() -> None:
    """`created` and `canceled` in one reply, with watch id -1: the way etcd refuses."""
    replay = Replay()
    replay.listed(Snapshot((), 1, 7, 3))
    replay.opened()
    refusal = Reply(1, 7, 3, BROADCAST, created=True, canceled=True, cancel_reason="etcdserver: permission denied")
    assert replay.digest(refusal).order is Order.DENIED
    assert not replay.watching


def test_replies_for_other_watches_are_cancelled_and_not_applied() -> None:
    replay = watching(A1)
    digest = replay.digest(Reply(9, 7, 3, 4, events=(B5,)))
    assert (digest.stray, digest.message) == (4, None)
    assert replay.table == {b"/s/a": A1}


def test_a_member_behind_us_leads_to_a_list() -> None:
    """It may lag, or the cluster may have been restored from an old snapshot: a linearizable list knows."""
    replay = Replay()
    replay.listed(Snapshot((), 10, 7, 3))
    replay.opened()
    assert replay.digest(Reply(6, 7, 3, created=True)).order is Order.RELIST
    replay.listed(Snapshot((A1,), 6, 7, 3))
    assert replay.next_revision == 7


def test_an_audit_finds_and_repairs_what_the_watch_never_told() -> None:
    replay = watching(A1, B5, revision=5)
    replay.begin_audit()
    replay.audit(Snapshot((A1, KeyValue(b"/s/c", b"", 4)), 5, 7, 3))
    digest = replay.digest(Reply(5, 7, 3))
    assert digest.drift == 2
    assert isinstance(digest.message, Listed)
    assert sorted(replay.table) == [b"/s/a", b"/s/c"]


def test_an_audit_waits_until_the_watch_has_got_as_far() -> None:
    replay = watching(A1)
    replay.begin_audit()
    replay.audit(Snapshot((A2,), 2, 7, 3))
    assert replay.digest(Reply(1, 7, 3)).drift == 0
    assert replay.digest(Reply(2, 7, 3, events=(A2,))).drift == 0
    assert replay.table == {b"/s/a": A2}


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"/s/", b"/s0"), (b"a\xff", b"b"), (b"a\xff\xff", b"b"), (b"\xff", b"\x00"), (b"", b"\x00")],
)
def test_range_end_is_the_first_key_after_the_prefix(prefix: bytes, end: bytes) -> None:
    assert range_end(prefix) == end
