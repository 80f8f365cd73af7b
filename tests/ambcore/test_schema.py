"""Keys and records, as `docs/keys.md` promises them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.errors import RecordError
from ambcore.model import Address, Instance, Protocol, Readiness
from ambcore.schema import (
    MAX_ATTRIBUTES,
    MAX_KEY,
    MAX_TAGS,
    MAX_TEXT,
    MAX_VALUE,
    decode_record,
    encode_record,
    normal_prefix,
    record_key,
    service_prefix,
    split_key,
)
from tests.ambcore.strategies import instances, names

KEY = b"/services/redis-A/redis-demo.service"
PLAIN = Instance("redis-A", "redis-demo.service", Address("10.132.181.182", 49155))


def decode(**fields: Any) -> Instance:
    """The instance of a good record with these fields replaced or added."""
    return decode_record(KEY, json.dumps({"host": "10.132.181.182", "port": 49155, **fields}).encode())


def refusal(key: bytes, value: bytes) -> RecordError:
    with pytest.raises(RecordError) as caught:
        decode_record(key, value)
    return caught.value


# Writing


def test_a_record_begins_with_host_and_port_and_leaves_defaults_out() -> None:
    assert encode_record(PLAIN) == b'{"host": "10.132.181.182", "port": 49155}'


def test_a_full_record_says_everything_under_the_documented_names() -> None:
    full = dataclasses.replace(
        PLAIN,
        protocol=Protocol.UDP,
        weight=3,
        readiness=Readiness.DRAINING,
        owner="core-01",
        epoch="5f0c",
        container="9d1c",
        tags=("b", "a"),
        attributes=(("zone", "2"), ("rack", "1")),
    )
    assert list(json.loads(encode_record(full)).items()) == [
        ("host", "10.132.181.182"),
        ("port", 49155),
        ("protocol", "udp"),
        ("weight", 3),
        ("state", "draining"),
        ("owner", "core-01"),
        ("epoch", "5f0c"),
        ("container", "9d1c"),
        ("tags", ["b", "a"]),
        ("attributes", {"rack": "1", "zone": "2"}),
    ]


@given(instances())
def test_a_record_reads_back_as_it_was_written(instance: Instance) -> None:
    key = record_key(instance.service, instance.id).encode()
    assert decode_record(key, encode_record(instance)) == instance


@given(names, names, st.sampled_from(("/services/", "/a/b/", "/ü/")))
def test_a_key_reads_back_as_it_was_written(service: str, name: str, prefix: str) -> None:
    key = record_key(service, name, prefix)
    assert split_key(key.encode(), prefix) == (service, name)
    assert key.startswith(service_prefix(service, prefix))


# Reading


@pytest.mark.parametrize(
    "value", [b"10.132.181.182:49155", b"10.132.181.182:49155\n", b"[::ffff:10.132.181.182]:49155"]
)
def test_a_plain_host_and_port_is_read(value: bytes) -> None:
    assert decode_record(KEY, value) == PLAIN


def test_a_plain_ipv6_record_is_read() -> None:
    assert decode_record(KEY, b"[2001:db8::7]:6379").address == Address("2001:db8::7", 6379)


def test_registrator_marks_udp_by_the_end_of_the_id() -> None:
    key = b"/services/dns/core-01:bind:53:udp"
    assert decode_record(key, b"10.1.2.3:53").protocol is Protocol.UDP
    assert decode_record(key, b'{"host": "10.1.2.3", "port": 53}').protocol is Protocol.UDP
    assert decode_record(key, b'{"host": "10.1.2.3", "port": 53, "protocol": "tcp"}').protocol is Protocol.TCP


def test_unknown_names_are_ignored_so_that_newer_writers_and_older_readers_go_together() -> None:
    assert decode(since="tomorrow", nested={"deep": [None]}) == PLAIN


def test_a_quoted_port_is_read_as_shell_scripts_write_it() -> None:
    assert decode(port="49155") == PLAIN


@pytest.mark.parametrize(
    "fields",
    [
        {"host": None},
        {"host": ""},
        {"host": 7},
        {"host": "redis.example"},
        {"host": "fe80::1%eth0"},
        {"host": "10.1.2.3 "},
        {"host": "10.1.2.3\x00"},
        {"port": None},
        {"port": 0},
        {"port": -1},
        {"port": 65536},
        {"port": 10**400},
        {"port": 49155.0},
        {"port": True},
        {"port": "0"},
        {"port": ""},
        {"port": "\u0668\u0660"},
        {"port": "0000080"},
        {"port": [80]},
        {"protocol": "sctp"},
        {"protocol": None},
        {"protocol": ["tcp"]},
        {"protocol": {}},
        {"weight": 0},
        {"weight": 257},
        {"weight": True},
        {"weight": 1.0},
        {"weight": "1"},
        {"weight": None},
        {"state": "down"},
        {"state": []},
        {"owner": 1},
        {"owner": "a\nb"},
        {"owner": "x" * (MAX_TEXT + 1)},
        {"epoch": "\x1b[31m"},
        {"container": {}},
        {"container": "\ud800"},
        {"tags": None},
        {"tags": "a"},
        {"tags": {"a": "b"}},
        {"tags": [1]},
        {"tags": [["a"]]},
        {"tags": ["a"] * (MAX_TAGS + 1)},
        {"attributes": None},
        {"attributes": ["a"]},
        {"attributes": {"a": 1}},
        {"attributes": {"a\x00": "b"}},
        {"attributes": {str(number): "" for number in range(MAX_ATTRIBUTES + 1)}},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_field_of_the_wrong_kind_makes_the_record_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        decode(**fields)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "malformed"),
        (b"\x00", "malformed"),
        (b"null", "malformed"),
        (b"{", "malformed"),
        (b"{}", "malformed"),
        (b"[]", "malformed"),
        (b'"10.1.2.3:80"', "malformed"),
        (b"10.1.2.3", "malformed"),
        (b"::1:80", "malformed"),
        (b"10.1.2.3:80 10.1.2.4:80", "malformed"),
        (b"redis.example:80", "malformed"),
        (b'{"host": "10.1.2.3", "port": 80}x', "malformed"),
        (b'{"host": "10.1.2.3", "host": "10.1.2.4", "port": 80}', "malformed"),
        (b'{"host": "10.1.2.3", "port": 80, "attributes": {"a": "1", "a": "2"}}', "malformed"),
        (b'{"host": "10.1.2.3", "port": NaN}', "malformed"),
        (b'{"host": "10.1.2.3", "port": 80, "x": Infinity}', "malformed"),
        (b'{"host": "10.1.2.3", "port": 80, "x": [-Infinity]}', "malformed"),
        (b'{"host": "10.1.2.3", "port": ' + b"9" * 5000 + b"}", "malformed"),
        (b"\xef\xbb\xbf" + b'{"host": "10.1.2.3", "port": 80}', "malformed"),
        (b"\xff\xfe", "not_utf8"),
        (b'{"host": "10.1.2.3", "port": 80, "owner": "\xc3\x28"}', "not_utf8"),
        (b"\xed\xa0\x80", "not_utf8"),
        (b" " * (MAX_VALUE + 1), "too_long"),
        (b'{"x":' * 1300 + b"1" + b"}" * 1300, "malformed"),
        (b'{"x":' + b"[" * 8000, "malformed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_value_is_refused_with_its_reason(value: bytes, reason: str) -> None:
    assert refusal(KEY, value).reason == reason


@pytest.mark.parametrize("depth", [10, 100, 1000, 4000])
def test_nesting_in_an_ignored_field_is_read_or_refused_but_never_fatal(depth: int) -> None:
    """How deep is too deep is the JSON reader's business; a crash would be ours."""
    value = b'{"host": "10.132.181.182", "port": 49155, "x":' + b"[" * depth + b"]" * depth + b"}"
    if depth <= 100:
        assert decode_record(KEY, value) == PLAIN
    else:
        with contextlib.suppress(RecordError):
            assert decode_record(KEY, value) == PLAIN


def test_a_record_of_the_largest_size_is_read() -> None:
    value = encode_record(PLAIN).ljust(MAX_VALUE)
    assert decode_record(KEY, value) == PLAIN
    assert refusal(KEY, value + b" ").reason == "too_long"


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"/",
        b"/services/",
        b"/services/redis-A",
        b"/services/redis-A/",
        b"/services//a",
        b"/services/redis-A/a/b",
        b"/services/redis-A//",
        b"/other/redis-A/a",
        b"services/redis-A/a",
        b"/servicesredis-A/a",
        b"/services/redis-A/\xff",
        b"/services/redis-A/" + b"a" * MAX_KEY,
    ],
)
def test_a_key_of_another_shape_is_refused(key: bytes) -> None:
    assert refusal(key, b"10.1.2.3:80").reason == "key"


@pytest.mark.parametrize("name", [b"a b", b"a\nb", b"\x00", b"\x1b[2J", "\u202e".encode(), b"a" * 300])
def test_a_name_that_could_mislead_is_refused(name: bytes) -> None:
    refused = refusal(b"/services/redis-A/" + name, b"10.1.2.3:80")
    assert refused.reason in {"malformed", "key"}
    assert str(refused).isprintable()


def test_a_refusal_quotes_no_more_than_fits_a_log_line() -> None:
    for value in (b"x" * 8000 + b":80", json.dumps({"host": "x" * 8000, "port": 80}).encode()):
        assert len(str(refusal(KEY, value))) < 400


# Prefixes


@pytest.mark.parametrize("text", ["/services/", "services", "/services", "services/", "//services//"])
def test_a_prefix_has_one_slash_at_each_end_however_it_was_given(text: str) -> None:
    assert normal_prefix(text) == "/services/"


def test_a_prefix_may_have_several_parts() -> None:
    assert normal_prefix("prod/eu/services") == "/prod/eu/services/"


@pytest.mark.parametrize("text", ["", "/", "//", " ", "a b", "a\n", "\x00"])
def test_a_prefix_that_would_watch_everything_or_print_badly_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a prefix is"):
        normal_prefix(text)
