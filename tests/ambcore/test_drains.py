"""Operators' markers, laid over instances."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore import drains as module
from ambcore.drains import Drains, fold, hosts_of
from ambcore.fleet import Drain, drain_key, encode_drain
from ambcore.history import Changed, KeyDeleted, KeyValue, Listed, Message
from ambcore.model import Address, Instance, Readiness

ONE = Instance("redis-A", "one", Address("10.0.0.1", 6379), owner="core-01:4J2KQ7LHVXQ3")
TWO = Instance("redis-A", "two", Address("10.0.0.2", 6379), owner="core-02")
PLAIN = Instance("redis-A", "core-03:redis:6379", Address("10.0.0.3", 6379))
ALL = (ONE, TWO, PLAIN)


def put(drain: Drain, revision: int = 1) -> KeyValue:
    return KeyValue(drain_key(drain).encode(), encode_drain(drain), revision)


def gone(drain: Drain, revision: int = 1) -> KeyDeleted:
    return KeyDeleted(drain_key(drain).encode(), revision)


@pytest.mark.parametrize(
    ("marker", "hit"),
    [
        (Drain("redis-A", "one"), [ONE]),
        (Drain("redis-A", "core-03:redis:6379"), [PLAIN]),
        (Drain("redis-B", "one"), []),
        (Drain(host="core-01"), [ONE]),
        (Drain(host="core-01:4J2KQ7LHVXQ3"), [ONE]),
        (Drain(host="core-02"), [TWO]),
        (Drain(host="core-03"), [PLAIN]),
        (Drain(host="10.0.0.3"), [PLAIN]),
        (Drain(host="::ffff:10.0.0.2"), [TWO]),
        (Drain(host="core"), []),
    ],
)
def test_a_marker_hits_its_instance_or_every_instance_of_its_host(marker: Drain, hit: list[Instance]) -> None:
    drains = Drains.of([marker])
    assert [item for item in ALL if drains.hitting(item)] == hit
    expected = [Readiness.DRAINING if item in hit else Readiness.UP for item in ALL]
    assert [item.readiness for item in drains.over(ALL)] == expected


def test_an_instances_own_marker_is_told_before_its_hosts() -> None:
    own, host = Drain("redis-A", "one", why="itself"), Drain(host="core-01", why="the host")
    assert Drains.of([own, host]).hitting(ONE) == own


def test_who_owns_a_record_is_believed_before_the_look_of_its_id() -> None:
    assert hosts_of(replace(PLAIN, owner="core-09")) == ("10.0.0.3", "core-09")


def test_nothing_changes_where_nobody_marked_anything() -> None:
    assert Drains().over(ALL) is ALL
    (one, two, plain) = Drains.of([Drain("redis-A", "two")]).over(ALL)
    assert one is ONE
    assert plain is PLAIN
    assert two == replace(TWO, readiness=Readiness.DRAINING)


def test_what_drains_by_itself_stays_as_it_is() -> None:
    stopping = replace(ONE, readiness=Readiness.DRAINING)
    (after,) = Drains.of([Drain("redis-A", "one")]).over((stopping,))
    assert after is stopping


def test_two_spellings_of_an_address_are_two_markers() -> None:
    """One of them taken back leaves the other."""
    mapped = KeyValue(b"/ambassadors/drains/hosts/::ffff:10.0.0.1", b"", 1)
    both = fold(Drains(), Listed((put(Drain(host="10.0.0.1")), mapped), 1))
    left = fold(both, Changed((KeyDeleted(mapped.key, 2),), 2))
    assert left.hitting(ONE) == Drain(host="10.0.0.1")


def test_a_key_that_is_no_markers_is_refused_until_it_is_gone() -> None:
    stray = KeyValue(b"/ambassadors/drains/racks/7", b"", 1)
    drains = fold(Drains(), Listed((stray, put(Drain(host="core-01"))), 1))
    assert list(drains) == [Drain(host="core-01")]
    assert list(drains.refused) == [stray.key]
    assert not fold(drains, Changed((KeyDeleted(stray.key, 2),), 2)).refused


def test_a_writer_gone_wild_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DRAINS", 2)
    three = tuple(put(Drain(host=f"core-{number}")) for number in range(3))
    drains = fold(Drains(), Listed(three, 1))
    assert len(drains) == 2
    assert "too_many" in drains.refused[three[2].key]
    again = fold(drains, Changed((put(Drain(host="core-0", why="another")),), 2))
    assert [marker.why for marker in again] == ["another", ""]


HOSTS = st.sampled_from(["core-01", "core-02", "10.0.0.3"])
MARKERS = st.builds(Drain, host=HOSTS, why=st.sampled_from(["", "disk"])) | st.builds(
    Drain, service=st.just("redis-A"), instance=st.sampled_from(["one", "two"])
)
EVENTS = st.lists(MARKERS.map(put) | MARKERS.map(gone), max_size=8)


@given(st.lists(st.tuples(st.booleans(), EVENTS), max_size=5))
def test_folding_knows_what_the_keys_hold(messages: list[tuple[bool, list[KeyValue | KeyDeleted]]]) -> None:
    """However the changes are cut into messages, the markers are those of the keys that exist."""
    drains, keys = Drains(), dict[bytes, bytes]()
    for listed, events in messages:
        if listed:
            keys.clear()
        values = [event for event in events if isinstance(event, KeyValue)]
        message: Message = Listed(tuple(values), 1) if listed else Changed(tuple(events), 1)
        for event in values if listed else events:
            if isinstance(event, KeyValue):
                keys[event.key] = event.value
            else:
                keys.pop(event.key, None)
        drains = fold(drains, message)
    assert {key: encode_drain(marker) for key, marker in drains.markers.items()} == keys
    for item in ALL:
        names = {f"/ambassadors/drains/hosts/{host}".encode() for host in hosts_of(item)}
        names.add(f"/ambassadors/drains/instances/{item.service}/{item.id}".encode())
        assert bool(drains.hitting(item)) == bool(names & keys.keys())
