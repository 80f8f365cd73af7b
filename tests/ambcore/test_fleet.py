"""Announcements and markers: what is written is read again, and whatever else stands there hurts nobody."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.errors import RecordError
from ambcore.fleet import (
    Announcement,
    Drain,
    Kind,
    admin_url,
    decode_drain,
    decode_program,
    drain_key,
    encode_drain,
    encode_program,
    named,
    program_key,
)
from ambcore.schema import MAX_KEY, MAX_VALUE
from ambcore.unreachable import MAX_WHY, MOST, Unreachable, fitting

PROXY = Announcement(
    kind=Kind.DYNPROXY,
    id="core-02:8f3a",
    host="core-02",
    version="0.2.0",
    admin="http://10.0.0.2:9901",
    services=("redis-A", "web"),
    since="2026-01-31T12:00:00Z",
)
DOWN = Unreachable("2026-01-31T12:34:56Z", "web", "one", "refused")
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1)


def read(program: Announcement) -> Announcement:
    return decode_program(program_key(program.kind, program.id).encode(), encode_program(program))


@pytest.mark.parametrize(
    "program",
    [
        PROXY,
        replace(PROXY, admin=None),
        replace(PROXY, services=(), more=3),
        replace(PROXY, kind=Kind.REGISTRAR, owner="core-01:4J2K"),
        replace(PROXY, unreachable=(DOWN, replace(DOWN, instance="two", why="No route to host")), others_unreachable=3),
    ],
)
def test_an_announcement_is_read_as_it_was_written(program: Announcement) -> None:
    assert read(program) == program


@given(host=NAMES, services=st.lists(NAMES.filter(lambda name: len(name) <= 128), max_size=200))
def test_an_announcement_fits_however_many_services_there_are(host: str, services: list[str]) -> None:
    some, more = named(services)
    assert len(some) + more == len(set(services))
    program = replace(PROXY, host=host[:50], services=some, more=more)
    assert len(encode_program(program)) <= MAX_VALUE
    assert read(program) == program


@pytest.mark.parametrize(
    ("admin", "why"),
    [
        ("https://10.0.0.2:9901", "expected http"),
        ("http://10.0.0.2", "HOST:PORT"),
        ("http://10.0.0.2:9901/path", "port"),
        ("http://user@10.0.0.2:80", "not a host"),
        ("http://169.254.169.254:80", "no address of an admin server"),
        ("http://[::ffff:169.254.169.254]:80", "no address of an admin server"),
        ("http://[fe80::1]:80", "no address of an admin server"),
        ("http://0.0.0.0:80", "no address of an admin server"),
        ("http://224.0.0.1:80", "no address of an admin server"),
        ("http://2130706433:80", "not a host"),
        ("http://a b:80", "not a host"),
    ],
)
def test_tools_are_not_sent_where_no_admin_server_can_be(admin: str, why: str) -> None:
    value = json.dumps({**json.loads(encode_program(PROXY)), "admin": admin}).encode()
    with pytest.raises(RecordError, match=why):
        decode_program(b"/ambassadors/programs/dynproxy/a", value)


def test_a_loopback_address_is_for_tools_of_that_machine() -> None:
    near = replace(PROXY, admin="http://127.0.0.1:9901")
    assert near.admin_from("core-02") == near.admin
    assert near.admin_from("core-03") is None
    assert PROXY.admin_from("core-03") == PROXY.admin
    assert replace(PROXY, admin="http://localhost:9901").admin_from("core-03") is None
    assert replace(PROXY, admin=None).admin_from("core-02") is None


def test_an_admin_servers_host_may_be_a_name_or_an_address_of_either_family() -> None:
    assert admin_url("core-02.example", 80) == "http://core-02.example:80"
    assert admin_url("2001:db8::1", 80) == "http://[2001:db8::1]:80"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"/ambassadors/programs/dynproxy", b"{}", "key"),
        (b"/ambassadors/programs/etcd/a", encode_program(PROXY), "key"),
        (b"/ambassadors/programs/dynproxy/a/b", encode_program(PROXY), "key"),
        (b"/elsewhere/programs/dynproxy/a", encode_program(PROXY), "key"),
        (b"/ambassadors/programs/dynproxy/\xff", encode_program(PROXY), "key"),
        (b"/ambassadors/programs/dynproxy/" + b"a" * MAX_KEY, encode_program(PROXY), "key"),
        (b"/ambassadors/programs/dynproxy/a b", encode_program(PROXY), "malformed"),
        (b"/ambassadors/programs/dynproxy/a", b"\xff", "not_utf8"),
        (b"/ambassadors/programs/dynproxy/a", b" " * (MAX_VALUE + 1), "too_long"),
        (b"/ambassadors/programs/dynproxy/a", b"[" * 5000, "malformed"),
        (b"/ambassadors/programs/dynproxy/a", b"[]", "malformed"),
        (b"/ambassadors/programs/dynproxy/a", b"{}", "malformed"),
    ],
)
def test_what_is_no_announcement_is_refused_with_a_reason(key: bytes, value: bytes, reason: str) -> None:
    with pytest.raises(RecordError) as refused:
        decode_program(key, value)
    assert refused.value.reason == reason


@given(
    name=st.sampled_from(
        ["host", "version", "admin", "services", "since", "more", "owner", "unreachable", "others_unreachable"]
    ),
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5),
)
def test_no_value_of_a_field_does_more_than_be_refused(name: str, value: object) -> None:
    fields = {**json.loads(encode_program(PROXY)), name: value}
    with contextlib.suppress(RecordError):
        program = decode_program(b"/ambassadors/programs/dynproxy/a", json.dumps(fields).encode())
        assert read(program) == program


@pytest.mark.parametrize("name", ["more", "others_unreachable"])
def test_a_number_that_is_longer_than_python_prints_with_one_more_is_refused(name: str) -> None:
    fields = {**json.loads(encode_program(PROXY)), name: 10**4299}
    with pytest.raises(RecordError, match="the number of other"):
        decode_program(b"/ambassadors/programs/dynproxy/a", json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("drain", "key"),
    [
        (Drain("redis-A", "one"), "/ambassadors/drains/instances/redis-A/one"),
        (Drain("redis-A", "host:name:80", why="disk", since="2026-01-31T12:00:00Z", by="ops@core-01"),
         "/ambassadors/drains/instances/redis-A/host:name:80"),
        (Drain(host="core-01"), "/ambassadors/drains/hosts/core-01"),
        (Drain(host="2001:DB8::1", why="kernel"), "/ambassadors/drains/hosts/2001:db8::1"),
    ],
)  # fmt: skip
def test_a_marker_is_read_as_it_was_written(drain: Drain, key: str) -> None:
    assert drain_key(drain) == key
    assert decode_drain(key.encode(), encode_drain(drain)) == drain


@given(value=st.binary(max_size=50) | st.just(b"[" * 5000) | st.just(b'{"why": 7, "by": "a\\u001b"}'))
def test_a_marker_counts_whatever_its_value_says(value: bytes) -> None:
    """Somebody wrote it with etcdctl, in haste: what it is of stands in the key."""
    marker = decode_drain(b"/ambassadors/drains/hosts/core-01", value)
    assert (marker.host, marker.service, marker.instance) == ("core-01", "", "")
    assert marker.why.isprintable()


@pytest.mark.parametrize(
    "key",
    [
        "/ambassadors/drains/",
        "/ambassadors/drains/hosts/",
        "/ambassadors/drains/hosts/a/b",
        "/ambassadors/drains/hosts/a b",
        "/ambassadors/drains/instances/redis-A",
        "/ambassadors/drains/instances/redis-A/",
        "/ambassadors/drains/instances//one",
        "/ambassadors/drains/racks/a",
        "/services/redis-A/one",
    ],
)
def test_a_key_of_no_instance_and_no_host_is_refused(key: str) -> None:
    with pytest.raises(RecordError) as refused:
        decode_drain(key.encode(), b"{}")
    assert refused.value.reason == "key"


@given(
    st.lists(st.builds(Unreachable, st.just(DOWN.since), NAMES, NAMES.map(lambda text: text[:255]), st.just("refused")))
)
def test_what_cannot_be_reached_fits_however_much_it_is(down: list[Unreachable]) -> None:
    some, others = fitting(down)
    assert len(some) + others == len(down)
    assert len(some) <= MOST
    services, more = named([f"{number:0128}" for number in range(40)])
    full = replace(PROXY, services=services, more=more, unreachable=some, others_unreachable=others)
    assert len(encode_program(full)) <= MAX_VALUE
    assert read(full).unreachable == some


def test_the_longest_unreachable_are_told_and_the_others_counted() -> None:
    down = [replace(DOWN, since=f"2026-01-31T12:{minute:02}:00Z", instance=str(minute)) for minute in range(59, -1, -1)]
    some, others = fitting(down)
    assert [one.instance for one in some] == [str(minute) for minute in range(len(some))]
    assert others == 60 - len(some)
    assert 10 <= len(some) <= MOST


GOOD = DOWN.document()


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        "web/one",
        [],
        {},
        GOOD | {"why": 7},
        GOOD | {"why": "\x1b[2J"},
        GOOD | {"why": "x" * (MAX_WHY + 1)},
        GOOD | {"since": "now"},
        GOOD | {"service": "a/b"},
        GOOD | {"instance": "a\nb"},
        GOOD | {"instance": ""},
        {name: text for name, text in GOOD.items() if name != "since"},
    ],
)
def test_of_what_cannot_be_reached_only_what_can_be_read_counts(entry: object) -> None:
    """And it takes nothing from the rest: the program and its other words stand."""
    value = json.dumps({**json.loads(encode_program(PROXY)), "unreachable": [entry, GOOD]}).encode()
    assert decode_program(b"/ambassadors/programs/dynproxy/core-02:8f3a", value) == replace(PROXY, unreachable=(DOWN,))


@pytest.mark.parametrize("value", [None, 7, "x", {"a": 1}, [[[]]], [GOOD] * 1000])
def test_a_list_of_any_other_shape_or_length_is_bounded(value: object) -> None:
    encoded = json.dumps({**json.loads(encode_program(PROXY)), "unreachable": value}).encode()[:MAX_VALUE]
    with contextlib.suppress(RecordError):  # a thousand are too many bytes
        assert len(decode_program(b"/ambassadors/programs/dynproxy/a", encoded).unreachable) <= MOST
