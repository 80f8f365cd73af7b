"""Lists of another past than what is known: told to readers, not believed where something better is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ambcore.history import Changed, KeyValue, Listed
from ambcore.replay import Replay, Reply, Snapshot

ONE = KeyValue(b"/s/one", b"1", 5, 7)
KNOWN = Snapshot((ONE,), 10, 77, 3)


@pytest.fixture
def replay() -> Replay:
    made = Replay()
    made.listed(KNOWN)
    return made


@pytest.mark.parametrize(
    ("snapshot", "past"),
    [
        (replace(KNOWN, revision=11), 0),
        (replace(KNOWN, term=4), 0),
        (replace(KNOWN, revision=9), 1),
        (replace(KNOWN, cluster_id=78), 1),
        (replace(KNOWN, revision=11, term=2), 1),
    ],
)
def test_a_list_of_another_past_is_told_as_one(replay: Replay, snapshot: Snapshot, past: int) -> None:
    """An older state and another cluster alike; it is believed all the same."""
    assert replay.listed(snapshot) == Listed((ONE,), snapshot.revision, past)
    assert replay.revision == snapshot.revision


def test_the_next_list_of_the_same_past_is_no_news(replay: Replay) -> None:
    replay.listed(Snapshot((), 2, 78, 1))
    assert replay.listed(Snapshot((), 3, 78, 1)).past == 1
    assert replay.contents().past == 1


def test_what_an_earlier_life_saw_is_a_past_too() -> None:
    """It is not the contents, but what etcd says now is compared with it."""
    replay = Replay()
    replay.expect(KNOWN)
    assert (replay.revision, replay.contents().items) == (0, ())
    assert replay.foreign(replace(KNOWN, cluster_id=78))
    assert replay.listed(replace(KNOWN, revision=9)).past == 1


def test_an_earlier_lifes_own_list_is_the_same_past() -> None:
    replay = Replay()
    replay.expect(KNOWN)
    assert replay.listed(KNOWN).past == 0
    assert replay.listed(replace(KNOWN, revision=12)).past == 0


def test_one_members_word_is_taken_if_it_is_of_the_same_past_and_not_older(replay: Replay) -> None:
    assert replay.newer(replace(KNOWN, revision=11))
    for worse in (replace(KNOWN, revision=9), replace(KNOWN, cluster_id=78), replace(KNOWN, term=2, revision=20)):
        assert not replay.newer(worse)


@pytest.mark.parametrize("worse", [replace(KNOWN, cluster_id=78, revision=99), replace(KNOWN, revision=9)])
def test_an_audit_by_who_has_another_past_changes_nothing(replay: Replay, worse: Snapshot) -> None:
    """A linearizable list cannot be older than what was known before it was asked for."""
    replay.opened()
    replay.digest(Reply(10, 77, 3, watch_id=1, created=True))
    replay.begin_audit()
    assert not replay.audit(replace(worse, items=()))
    digest = replay.digest(Reply(100, 77, 3, watch_id=1))
    assert (digest.message, digest.drift) == (None, 0)
    assert replay.contents().items == (ONE,)


def test_an_audit_may_be_older_than_what_has_come_since_it_was_asked_for(replay: Replay) -> None:
    replay.opened()
    replay.digest(Reply(10, 77, 3, watch_id=1, created=True))
    replay.begin_audit()
    two = KeyValue(b"/s/two", b"2", 12)
    assert replay.digest(Reply(12, 77, 3, watch_id=1, events=(two,))).message == Changed((two,), 12)
    assert replay.audit(Snapshot((), 11, 77, 3))
    assert replay.digest(Reply(12, 77, 3, watch_id=1)).drift == 1
