"""Messages that wait for a slow reader."""

from __future__ import annotations

from ambcore.history import Changed, KeyDeleted, KeyValue, Listed
from ambcore.pending import SLACK, Pending


def put(name: str, revision: int) -> KeyValue:
    return KeyValue(name.encode(), b"", revision)


def test_of_a_key_the_latest_change_is_kept_in_the_order_of_the_latest() -> None:
    pending = Pending(lambda: Listed((), 0))
    pending.add(Changed((put("a", 1), put("b", 2)), 2))
    pending.add(Changed((put("a", 3),), 3))
    assert pending.take() == Changed((put("b", 2), put("a", 3)), 3)
    assert not pending


def test_changes_after_a_list_that_waits_are_part_of_it() -> None:
    whole = Listed((put("a", 4),), 4)
    pending = Pending(lambda: whole)
    pending.add(Listed((), 3))
    pending.add(Changed((put("a", 4),), 4))
    assert pending.take() is whole


def test_memory_is_bounded_by_the_table() -> None:
    """A storm of keys that come and go leaves no trace of each."""
    pending = Pending(lambda: Listed((), 9))
    for number in range(SLACK + 1):
        pending.add(Changed((KeyDeleted(b"%d" % number, number),), number))
    assert pending.take() == Listed((), 9)
