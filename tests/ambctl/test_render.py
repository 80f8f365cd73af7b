"""How records look, to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.drains import Drains
from ambcore.findings import Level
from ambcore.fleet import Drain
from ambcore.history import Changed, KeyValue, Listed
from ambcore.model import Address, Instance, Protocol, Readiness
from ambcore.schema import encode_record, record_key
from ambcore.table import Reader
from ambctl import draw
from ambctl.draw import table
from ambctl.paper import MARKS, Paper
from ambctl.reach import Sighting
from ambctl.render import (
    LISTING,
    NO_DRAINS,
    Shade,
    aligned,
    fields,
    key_text,
    listing,
    listing_document,
    news_documents,
    news_lines,
    service_document,
)
from ambctl.view import Entry, View, entries

PREFIX = "/services/"
READER = Reader()
REDIS = Instance(
    "redis-A",
    "redis-demo.service",
    Address("10.132.181.182", 49155),
    owner="core-01",
    epoch="5f0c",
    container="9d1c",
    tags=("a", "b"),
    attributes=(("zone", "1"),),
)
DNS = Instance("dns", "bind", Address("2001:db8::7", 53), Protocol.UDP, 3, Readiness.DRAINING)


def item(instance: Instance, lease: int = 0) -> KeyValue:
    return KeyValue(record_key(instance.service, instance.id).encode(), encode_record(instance), 1, lease)


def found(*items: KeyValue) -> tuple[Entry, ...]:
    return entries(Listed(items, 1), READER)


def plain_fields(entry: Entry, left: Mapping[int, int | None], drains: Drains = NO_DRAINS) -> list[str]:
    return draw.fields(key_text(entry.item.key), fields(entry, left, drains), Paper())


def told(entries_found: tuple[Entry, ...]) -> Iterator[str]:
    """What ls and show say into a pipe and on a narrow terminal."""
    for paper in (Paper(), Paper(40, False, MARKS)):
        yield from table(LISTING, listing(entries_found, PREFIX), paper)
        for entry in entries_found:
            yield from draw.fields(key_text(entry.item.key), fields(entry, {}), paper)


EVIL = KeyValue(b"/services/redis-A/evil", b"127.0.0.1:80", 1)
ODD = KeyValue(b"/services/odd\x1b[2J\xff", b"x", 1)


def test_a_listing_is_one_aligned_table_with_the_refused_records_in_it() -> None:
    rows = listing(found(item(REDIS, 7), item(DNS), EVIL), PREFIX)
    assert table(LISTING, rows, Paper()) == [
        "SERVICE  INSTANCE            ADDRESS               STATE     WEIGHT  OWNER    NOTE",
        "dns      bind                [2001:db8::7]:53/udp  draining  3",
        (
            "redis-A  evil                -                     refused   -       -        "
            "address_denied: 127.0.0.1:80 can never be an instance's address"
        ),
        "redis-A  redis-demo.service  10.132.181.182:49155  up        1       core-01",
    ]


def test_a_column_that_nobody_needs_is_left_out() -> None:
    assert list(aligned([("A", "B", "C"), ("1", "", "x-"), ("", "", "22")])) == ["A  C", "1  x-", "-  22"]


def test_a_record_is_every_field_that_is_not_nothing() -> None:
    (entry,) = found(item(REDIS, 0x4BE1))
    assert plain_fields(entry, {0x4BE1: 7}) == [
        "/services/redis-A/redis-demo.service",
        "  address     10.132.181.182:49155",
        "  state       up",
        "  weight      1",
        "  lease       4be1, 7 s left",
        "  revision    1",
        "  owner       core-01",
        "  epoch       5f0c",
        "  container   9d1c",
        "  tags        a, b",
        "  attribute   zone = 1",
    ]


@pytest.mark.parametrize(
    ("lease", "left", "says"),
    [
        (0, {}, "none: stays until it is removed"),
        (7, {7: 4}, "7, 4 s left"),
        (7, {7: None}, "7, ended"),
        (7, {}, "7"),
    ],
)
def test_a_lease_is_said_with_its_time(lease: int, left: dict[int, int | None], says: str) -> None:
    (entry,) = found(item(DNS, lease))
    assert f"  lease       {says}" in plain_fields(entry, left)


def test_what_an_operator_drained_is_draining_and_says_by_whom() -> None:
    entries_found = found(item(REDIS), item(DNS))
    drains = Drains.of([Drain(host="core-01", by="ann", why="new kernel"), Drain("dns", "bind")])
    rows = [line.split(maxsplit=6) for line in table(LISTING, listing(entries_found, PREFIX, drains), Paper())]
    # DNS says so itself: no note.
    assert [(row[1], row[3], row[6:]) for row in rows[1:]] == [
        ("bind", "draining", []),
        ("redis-demo.service", "draining", ["host core-01 drained by ann: new kernel"]),
    ]
    document = listing_document(entries_found, PREFIX, 9, drains)
    (redis,) = document["services"]["redis-A"]
    assert (redis["state"], redis["drained"]) == ("up", "host core-01")  # the record's word, and the operator's
    assert "  note        host core-01 drained by ann: new kernel" in plain_fields(entries_found[1], {}, drains)


def test_a_document_holds_every_field_and_every_refusal() -> None:
    document = listing_document(found(item(REDIS, 2**62), EVIL), PREFIX, 9)
    assert document == {
        "prefix": "/services/",
        "revision": 9,
        "services": {
            "redis-A": [
                {
                    "service": "redis-A",
                    "id": "redis-demo.service",
                    "host": "10.132.181.182",
                    "port": 49155,
                    "protocol": "tcp",
                    "weight": 1,
                    "state": "up",
                    "owner": "core-01",
                    "epoch": "5f0c",
                    "container": "9d1c",
                    "tags": ["a", "b"],
                    "attributes": {"zone": "1"},
                    "lease": "4000000000000000",
                    "revision": 1,
                    "drained": None,
                }
            ]
        },
        "refused": [
            {
                "key": "/services/redis-A/evil",
                "reason": "address_denied",
                "detail": "address_denied: 127.0.0.1:80 can never be an instance's address",
            }
        ],
    }
    assert service_document(found(item(REDIS, 2**62), EVIL), "redis-A", 9, {2**62: 8}) == {
        "service": "redis-A",
        "revision": 9,
        "instances": [document["services"]["redis-A"][0] | {"lease_left": 8, "unreachable_from": []}],
        "refused": document["refused"],
    }


def test_news_are_lines_with_a_sign() -> None:
    view, news = View().digest(Listed((item(REDIS), item(DNS)), 1), READER)
    assert list(news_lines(news)) == [
        "+ dns/bind [2001:db8::7]:53 draining udp weight=3",
        "+ redis-A/redis-demo.service 10.132.181.182:49155 up",
        "# 2 instances known, watching",
    ]
    moved = Instance(REDIS.service, REDIS.id, Address("10.1.1.1", 1))
    spoilt = KeyValue(item(DNS).key, b"127.0.0.1:53", 2)
    _, news = view.digest(Changed((item(moved), spoilt), 2), READER)
    assert list(news_lines(news)) == [
        "~ redis-A/redis-demo.service 10.1.1.1:1 up",
        (
            "! /services/dns/bind address_denied: 127.0.0.1:53 can never be an instance's address; "
            "its last good state stays"
        ),
    ]
    assert [(document["event"], document.get("kept")) for document in news_documents(news)] == [
        ("changed", None),
        ("refused", True),
    ]


@pytest.mark.parametrize("key", [ODD.key, b"/services/redis-A/\n+ forged", "/services/a/\u202eb".encode()])
def test_no_key_can_forge_a_line_or_steer_the_terminal(key: bytes) -> None:
    spoilt = KeyValue(key, b"10.1.2.3:80", 1)
    _, news = View().digest(Listed((spoilt,), 1), READER)
    for line in (*told(found(spoilt)), *news_lines(news)):
        assert line.isprintable()


@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=4))
def test_C24_whatever_a_record_holds_the_output_is_printable(records: list[tuple[bytes, bytes]]) -> None:
    items = tuple(KeyValue(b"/services/" + key, value, 1) for key, value in dict(records).items())
    _, news = View().digest(Listed(items, 1), READER)
    lines = [*told(found(*items)), *news_lines(news)]
    documents = [listing_document(found(*items), PREFIX, 1), *news_documents(news)]
    assert all(text.isprintable() for text in (*lines, *map(json.dumps, documents)))


def sighting(number: int) -> Sighting:
    return Sighting(f"2026-01-31T12:00:{number:02}Z", f"core-{number:02}", f"core-{number:02}-8f3a", "refused")


def test_who_cannot_reach_an_instance_is_shown_beside_it_up_to_ten_hosts() -> None:
    (entry,) = found(item(REDIS))
    seen = {("redis-A", REDIS.id): tuple(map(sighting, range(12))), ("redis-A", "another"): (sighting(20),)}
    lines = [cell for name, cell in fields(entry, {}, seen=seen) if name == "unreachable"]
    assert [cell.text for cell in lines if isinstance(cell, Shade)][:2] == [
        "from core-00 since 2026-01-31T12:00:00Z: refused",
        "from core-01 since 2026-01-31T12:00:01Z: refused",
    ]
    assert (len(lines), lines[-1]) == (11, Shade("from 2 others, too", Level.AMBER))
    (shown,) = service_document(found(item(REDIS)), "redis-A", 9, {}, seen=seen)["instances"]
    assert len(shown["unreachable_from"]) == 12
    assert shown["unreachable_from"][0] == {
        "since": "2026-01-31T12:00:00Z",
        "host": "core-00",
        "program": "core-00-8f3a",
        "why": "refused",
    }
