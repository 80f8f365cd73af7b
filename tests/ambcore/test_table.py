"""The live table: folding messages, telling two tables apart, the text form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambcore.admission import Admission, parse_networks
from ambcore.history import Changed, KeyDeleted, KeyValue, Listed, Message
from ambcore.model import Address, Instance, Protocol, Readiness
from ambcore.schema import encode_record, record_key
from ambcore.table import Diff, InstanceKey, Reader, Table, diff, fold
from tests.ambcore.strategies import few, instances, tables

READER = Reader()
ONE = Instance("redis-A", "one", Address("10.1.2.3", 6379))
TWO = Instance("redis-A", "two", Address("10.1.2.4", 6379), weight=3)
WEB = Instance("web", "one", Address("10.1.2.5", 80))
BAD = b"not a record"


def put(instance: Instance, value: bytes | None = None) -> KeyValue:
    key = record_key(instance.service, instance.id).encode()
    return KeyValue(key, encode_record(instance) if value is None else value, 1)


def gone(instance: Instance) -> KeyDeleted:
    return KeyDeleted(record_key(instance.service, instance.id).encode(), 1)


def changed(*events: KeyValue | KeyDeleted) -> Changed:
    return Changed(events, 1)


def listed(*items: KeyValue) -> Listed:
    return Listed(items, 1)


def after(table: Table, *messages: Message) -> Table:
    """The table after several messages, refusals set aside."""
    for message in messages:
        table, _ = fold(table, message, READER)
    return table


# The value


def test_a_table_groups_by_service_and_sorts_by_id() -> None:
    table = Table.of([TWO, WEB, ONE])
    assert table.instances("redis-A") == (ONE, TWO)
    assert table.instances("web") == (WEB,)
    assert table.instances("nobody") == ()
    assert list(table) == [ONE, TWO, WEB]
    assert len(table) == 3


def test_of_two_instances_under_one_key_the_later_counts() -> None:
    moved = dataclasses.replace(ONE, address=Address("10.1.2.9", 1))
    assert list(Table.of([ONE, moved])) == [moved]


def test_a_table_cannot_be_changed() -> None:
    table = Table.of([ONE])
    with pytest.raises(TypeError):
        table.services["web"] = (WEB,)  # type: ignore[index]
    with pytest.raises(AttributeError):
        table.services = {}  # type: ignore[misc]


# fold


def test_a_list_replaces_everything() -> None:
    assert after(Table.of([ONE, WEB]), listed(put(TWO))) == Table.of([TWO])
    assert after(Table.of([ONE, WEB]), listed()) == Table()


def test_changes_apply_in_the_order_they_happened() -> None:
    moved = dataclasses.replace(ONE, weight=7)
    assert after(Table(), changed(put(ONE), gone(ONE), put(moved))) == Table.of([moved])
    assert after(Table(), changed(put(ONE), put(moved), gone(ONE))) == Table()


def test_deleting_what_is_not_there_changes_nothing() -> None:
    table = Table.of([ONE])
    assert after(table, changed(gone(TWO), KeyDeleted(b"/services/", 1), KeyDeleted(b"\xff", 1))) == table


def test_a_fold_leaves_the_old_table_as_it_was() -> None:
    table = Table.of([ONE])
    after(table, changed(gone(ONE), put(TWO)))
    assert table == Table.of([ONE])


@pytest.mark.parametrize("message", [changed(put(ONE, BAD)), listed(put(ONE, BAD))], ids=["change", "list"])
def test_a_refused_record_leaves_the_last_good_one(message: Message) -> None:
    table, (rejection,) = fold(Table.of([ONE]), message, READER)
    assert table == Table.of([ONE])
    assert rejection.kept
    assert rejection.error.reason == "malformed"
    assert rejection.key == put(ONE).key


def test_a_refused_record_without_a_good_one_before_is_only_counted() -> None:
    table, (rejection,) = fold(Table.of([TWO]), changed(put(ONE, BAD)), READER)
    assert table == Table.of([TWO])
    assert not rejection.kept


def test_the_last_good_one_may_be_of_the_same_message() -> None:
    table, (rejection,) = fold(Table(), changed(put(ONE), put(ONE, BAD)), READER)
    assert table == Table.of([ONE])
    assert rejection.kept


def test_a_refused_record_does_not_bring_back_what_was_deleted() -> None:
    table, (rejection,) = fold(Table.of([ONE]), changed(gone(ONE), put(ONE, BAD)), READER)
    assert table == Table()
    assert not rejection.kept


def test_a_kept_record_goes_when_its_key_is_deleted() -> None:
    assert after(Table.of([ONE]), changed(put(ONE, BAD)), changed(gone(ONE))) == Table()


def test_an_unwelcome_address_is_refused_like_any_other_defect() -> None:
    reader = Reader(admission=Admission(parse_networks("10.1.2.3/32")))
    table, (rejection,) = fold(Table(), listed(put(ONE), put(TWO)), reader)
    assert table == Table.of([ONE])
    assert rejection.error.reason == "address_denied"


def test_a_reader_knows_its_prefix() -> None:
    item = KeyValue(b"/prod/redis-A/one", encode_record(ONE), 1)
    assert list(fold(Table(), listed(item), Reader("/prod/"))[0]) == [ONE]
    assert [rejection.error.reason for rejection in fold(Table(), listed(item), READER)[1]] == ["key"]


events = st.one_of(
    instances(few, few).map(put),
    instances(few, few).map(gone),
    instances(few, few).map(lambda instance: put(instance, BAD)),
)
histories = st.lists(events, max_size=20)
# `put` of the strategies draws any address; here every one is welcome.
ANYWHERE = Reader(admission=Admission(parse_networks("0.0.0.0/0,::/0")))


def model_of(history: Sequence[KeyValue | KeyDeleted]) -> dict[InstanceKey, bytes]:
    """The same history applied to a plain dict of values, refused ones ignored."""
    known: dict[InstanceKey, bytes] = {}
    for event in history:
        _, _, service, name = event.key.decode().split("/", 3)
        if isinstance(event, KeyDeleted):
            known.pop((service, name), None)
        elif event.value != BAD:
            known[service, name] = event.value
    return known


@given(histories, st.lists(st.integers(0, 20), max_size=5))
def test_a_history_folds_to_the_same_table_however_it_was_cut_into_messages(
    history: list[KeyValue | KeyDeleted], cuts: list[int]
) -> None:
    table, edges = Table(), sorted({0, len(history), *(cut for cut in cuts if cut < len(history))})
    for start, end in pairwise(edges):
        table, _ = fold(table, changed(*history[start:end]), ANYWHERE)
    assert {(item.service, item.id): encode_record(item) for item in table} == model_of(history)


@given(tables, tables)
def test_a_list_of_a_tables_records_gives_that_table(old: Table, new: Table) -> None:
    result, refused = fold(old, listed(*map(put, new)), ANYWHERE)
    assert result == new
    assert refused == ()


# diff


@given(tables, tables)
def test_a_diff_turns_the_old_table_into_the_new_one(old: Table, new: Table) -> None:
    change = diff(old, new)
    world = {(item.service, item.id): item for item in old}
    for item in change.removed:
        assert world.pop((item.service, item.id)) == item
    for was, item in change.changed:
        assert was != item
        assert world[item.service, item.id] == was
        world[item.service, item.id] = item
    for item in change.added:
        assert (item.service, item.id) not in world
        world[item.service, item.id] = item
    assert Table.of(world.values()) == new
    assert bool(change) == (old != new)


@given(tables)
def test_equal_tables_differ_in_nothing(table: Table) -> None:
    assert diff(table, Table.of(reversed(list(table)))) == Diff()


# Text form


def test_the_text_form_is_one_line_an_instance() -> None:
    draining = Instance("redis-A", "redis-2", Address("2001:db8::7", 6379), Protocol.TCP, 3, Readiness.DRAINING)
    dns = Instance("dns", "bind", Address("10.1.2.3", 53), Protocol.UDP)
    assert str(Table.of([draining, dns])) == (
        "dns/bind 10.1.2.3:53 up udp\nredis-A/redis-2 [2001:db8::7]:6379 draining weight=3\n"
    )


def test_blank_lines_and_comments_are_skipped() -> None:
    text = """
    # the demo
    redis-A/one 10.1.2.3:6379 up   # on host A

    redis-A/two 10.1.2.4:6379 up weight=3
    #
    """
    assert Table.parse(text) == Table.of([ONE, TWO])


def bare(instance: Instance) -> Instance:
    """Without what the text form leaves to the records."""
    return dataclasses.replace(instance, owner=None, epoch=None, container=None, tags=(), attributes=())


@given(st.lists(instances().map(bare), max_size=5).map(Table.of))
@settings(max_examples=300)
def test_the_text_form_reads_back_whatever_the_names(table: Table) -> None:
    assert Table.parse(str(table)) == table


@pytest.mark.parametrize(
    "line",
    [
        "redis-A/one",
        "redis-A/one 10.1.2.3:6379",
        "redis-A 10.1.2.3:6379 up",
        "redis-A/one 10.1.2.3 up",
        "redis-A/one 10.1.2.3:6379 down",
        "redis-A/one 10.1.2.3:6379 up sctp",
        "redis-A/one 10.1.2.3:6379 up weight=x",
        "redis-A/one 10.1.2.3:6379 up weight=0",
    ],
)
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=f"^'{line}': "):
        Table.parse(f"web/one 10.1.2.5:80 up\n{line}\n")


def test_service_takes_no_more_instances_than_readers_can_bear() -> None:
    """A writer gone wild fills its own service and no memory; a record that stands can still change or go."""
    reader = Reader(most=2)
    items = tuple(KeyValue(f"/services/a/{n}".encode(), f"10.0.0.{n}:80".encode(), n) for n in (1, 2, 3))
    table, refused = fold(Table(), Listed(items, 3), reader)
    assert [item.id for item in table] == ["1", "2"]
    assert [(rejection.error.reason, rejection.kept) for rejection in refused] == [("too_many", False)]
    changes = (
        KeyValue(b"/services/a/2", b"10.0.0.9:80", 4),
        KeyDeleted(b"/services/a/1", 5),
        dataclasses.replace(items[2], revision=6),
    )
    table, refused = fold(table, Changed(changes, 6), reader)
    assert [str(item.address) for item in table] == ["10.0.0.9:80", "10.0.0.3:80"]
    assert refused == ()


def test_a_flood_of_records_crowds_out_no_instance_that_is_known() -> None:
    """However a new list is ordered: whoever was there keeps its place, be it that its record cannot be read now."""
    reader = Reader(most=2)
    x, y = (KeyValue(f"/services/a/{name}".encode(), b"10.0.0.1:80", 1) for name in "xy")
    known, _ = fold(Table(), Listed((x, y), 1), reader)
    flood = tuple(KeyValue(f"/services/a/{n}".encode(), b"10.0.0.9:80", n) for n in range(3, 9))
    news = (dataclasses.replace(x, value=BAD), dataclasses.replace(y, value=b"10.0.0.3:80"))
    after, refused = fold(known, Listed((*flood, *news), 9), reader)
    assert [(item.id, str(item.address)) for item in after] == [("x", "10.0.0.1:80"), ("y", "10.0.0.3:80")]
    assert sorted((each.error.reason, each.kept) for each in refused) == [
        ("malformed", True),
        *[("too_many", False)] * 6,
    ]
