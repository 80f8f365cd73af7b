"""How records look, to people and to programs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.history import Changed, KeyValue, Listed
from ambcore.model import Address, Instance, Protocol, Readiness
from ambcore.schema import encode_record, record_key
from ambcore.table import Reader
from ambctl.render import aligned, details, listing, listing_document, news_documents, news_lines, service_document
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


EVIL = KeyValue(b"/services/redis-A/evil", b"127.0.0.1:80", 1)
ODD = KeyValue(b"/services/odd\x1b[2J\xff", b"x", 1)


def test_a_listing_is_one_aligned_table_with_the_refused_records_in_it() -> None:
    assert list(listing(found(item(REDIS, 7), item(DNS), EVIL), PREFIX)) == [
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


def test_details_are_every_field_that_is_not_nothing() -> None:
    assert list(details(found(item(REDIS, 0x4BE1), EVIL)))[3:] == [
        "/services/redis-A/redis-demo.service",
        "  address     10.132.181.182:49155",
        "  state       up",
        "  weight      1",
        "  lease       4be1",
        "  owner       core-01",
        "  epoch       5f0c",
        "  container   9d1c",
        "  tags        a, b",
        "  attribute   zone = 1",
    ]


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
    assert service_document(found(item(REDIS, 2**62), EVIL), "redis-A", 9) == {
        "service": "redis-A",
        "revision": 9,
        "instances": document["services"]["redis-A"],
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
    for line in (*listing(found(spoilt), PREFIX), *details(found(spoilt)), *news_lines(news)):
        assert line.isprintable()


@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=4))
def test_C24_whatever_a_record_holds_the_output_is_printable(records: list[tuple[bytes, bytes]]) -> None:
    items = tuple(KeyValue(b"/services/" + key, value, 1) for key, value in dict(records).items())
    _, news = View().digest(Listed(items, 1), READER)
    lines = [*listing(found(*items), PREFIX), *details(found(*items)), *news_lines(news)]
    documents = [listing_document(found(*items), PREFIX, 1), *news_documents(news)]
    assert all(text.isprintable() for text in (*lines, *map(json.dumps, documents)))
