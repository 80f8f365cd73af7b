"""Fault C24: whoever can write the prefix in etcd writes whatever he likes."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ambcore.admission import NEVER, Admission
from ambcore.errors import RecordError
from ambcore.history import Changed, KeyValue
from ambcore.model import Address, Instance
from ambcore.schema import MAX_VALUE, decode_record, encode_record
from ambcore.table import Reader, Table, fold

VALUES = 100_000
KEY = b"/services/redis-A/one"
LAST_GOOD = Instance("redis-A", "one", Address("10.9.9.9", 9))
OWN = Address("10.0.0.1", 6379)
READER = Reader(admission=Admission(own=frozenset({OWN})))
REASONS = {"key", "too_long", "not_utf8", "malformed", "address_denied", "own_listener"}

# What some reader would connect to, were it not for admission.
LITERALS = (
    *("10.1.2.3", "2001:db8::7", "::ffff:10.1.2.3", OWN.host, f"::ffff:{OWN.host}"),
    *("127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "fe80::1", "fe80::1%eth0"),  # noqa: S104
    *("169.254.169.254", "::ffff:a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "::7f00:1", "::a9fe:a9fe", "64:ff9b::a01:203"),
)
HOSTS: Sequence[Any] = (
    *LITERALS,
    *(
        "",
        "localhost",
        "redis.example",
        "0x7f.1",
        "2130706433",
        "010.0.0.1",
        "127.1",
        "10.1.2.3\x00",
        "\uff11\uff10.1.2.3",
    ),
    *(None, True, 0, 1.5, [], {}, ["10.1.2.3"], "x" * 300, "\ud800", "\x1b[2J"),
)
PORTS: Sequence[Any] = (
    *(80, 6379, 1, 65535, "80", "00080"),
    *(
        0,
        -1,
        65536,
        2**31,
        10**30,
        80.0,
        1e999,
        True,
        False,
        None,
        "",
        "0",
        "0000080",
        "-1",
        "8e1",
        "\u0668\u0660",
        [],
        {},
        [80],
    ),
)
ANYTHING: Sequence[Any] = (*HOSTS, *PORTS, "tcp", "udp", "up", "draining", 256, 257, ["a"], {"a": "b"}, {"a": {}})
FIELDS = ("protocol", "weight", "state", "owner", "epoch", "container", "tags", "attributes", "unknown", "")


def noise(lot: random.Random) -> bytes:
    return lot.randbytes(lot.randrange(64))


def huge(lot: random.Random) -> bytes:
    return b"{" * lot.choice((MAX_VALUE, MAX_VALUE + 1, 3 * MAX_VALUE))


def record(lot: random.Random) -> bytes:
    """A JSON object of the right shape whose fields are mostly what they should not be."""
    fields = {"host": lot.choice(HOSTS), "port": lot.choice(PORTS)}
    fields.update({lot.choice(FIELDS): lot.choice(ANYTHING) for _ in range(lot.randrange(3))})
    return json.dumps(fields).encode()


def steered(lot: random.Random) -> bytes:
    """A flawless record that leads somewhere."""
    return json.dumps({"host": lot.choice(LITERALS), "port": lot.choice((OWN.port, 80))}).encode()


def plain(lot: random.Random) -> bytes:
    host = str(lot.choice(HOSTS))
    shape = lot.choice(("{}:{}", "[{}]:{}", "{} {}", "{}:{}\n", "tcp://{}:{}"))
    return shape.format(host, lot.choice(PORTS)).encode(errors="surrogatepass")


def damaged(lot: random.Random) -> bytes:
    """A good record with a few bytes lost, doubled or replaced."""
    value = bytearray(encode_record(LAST_GOOD))
    for _ in range(lot.randrange(1, 5)):
        at = lot.randrange(len(value))
        value[at : at + lot.randrange(3)] = lot.randbytes(lot.randrange(3))
    return bytes(value)


def deep(lot: random.Random) -> bytes:
    opening, closing = lot.choice((("[", "]"), ('{"a":', "}")))
    depth = lot.randrange(1500)
    return f'{{"host": "10.1.2.3", "port": 80, "x": {opening * depth}1{closing * depth}}}'.encode()


def doubled(lot: random.Random) -> bytes:
    one, other = (json.dumps(lot.choice(HOSTS)) for _ in range(2))
    again = lot.choice(('"host"', '"hos\\u0074"'))
    return f'{{"host": {one}, "port": 80, {again}: {other}}}'.encode()


def not_json(lot: random.Random) -> bytes:
    word = lot.choice(("NaN", "Infinity", "-Infinity", "9" * 4301, "01", "'80'", "0x50", "undefined", "80,"))
    return f'{{"host": "10.1.2.3", "port": {word}}}'.encode()


MAKERS: Sequence[Callable[[random.Random], bytes]] = (
    *(record, record, record, steered, plain, plain, damaged, damaged, noise, doubled, not_json, deep, huge),
)


def digest(value: bytes, reader: Reader = READER) -> str:
    """Fold one hostile value over a known good instance, hold the rule, and say what became of it."""
    before = Table.of([LAST_GOOD])
    after, refused = fold(before, Changed((KeyValue(KEY, value, 1),), 1), reader)
    if refused:
        (rejection,) = refused
        assert rejection.kept
        assert after == before
        assert rejection.error.reason in REASONS
        assert str(rejection.error).isprintable()
        return rejection.error.reason
    (instance,) = after
    assert not any(instance.address.ip in network for network in NEVER)
    assert instance.address != OWN
    assert (instance.service, instance.id) == ("redis-A", "one")
    return "accepted"


def test_C24_of_100000_hostile_values_none_crashes_and_the_last_good_one_stays() -> None:
    """Every value is read, or refused with a reason from the fixed set; then the instance last read stays."""
    lot = random.Random(24)
    fates = Counter(digest(lot.choice(MAKERS)(lot)) for _ in range(VALUES))
    # The generator reaches every fate that a value can have, else it proves little.
    assert set(fates) == REASONS - {"key"} | {"accepted"}
    assert min(fates.values()) > 100


def test_C24_hostile_keys_change_nothing() -> None:
    lot = random.Random(42)
    before = Table.of([LAST_GOOD])
    parts = (
        b"/services/",
        b"redis-A",
        b"/",
        b"one",
        b"\x00",
        b"\xff",
        b"..",
        b" ",
        b"\n",
        b"a" * 300,
        b"%2f",
        "\u202e".encode(),
    )
    for _ in range(20_000):
        key = b"".join(lot.choices(parts, k=lot.randrange(6)))
        after, refused = fold(before, Changed((KeyValue(key, b"10.1.2.3:80", 1),), 1), READER)
        assert {rejection.error.reason for rejection in refused} <= REASONS
        assert all(instance.service.isprintable() and instance.id.isprintable() for instance in after)
        assert len(after) >= 1
        if key != KEY:
            assert LAST_GOOD in tuple(after)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["10.1.2.3", "up"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["host", "port", *FIELDS])


@settings(max_examples=300)
@given(st.dictionaries(names, json_values, max_size=6).map(lambda fields: json.dumps(fields).encode()))
def test_C24_any_json_object_is_read_or_refused(value: bytes) -> None:
    digest(value)


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {"host": st.just("10.1.2.3"), "port": st.just(80)}, optional=dict.fromkeys(FIELDS, json_values)
    )
)
def test_C24_a_record_with_any_further_fields_is_read_or_refused(fields: dict[str, Any]) -> None:
    digest(json.dumps(fields).encode())


@settings(max_examples=2000)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_C24_any_bytes_are_read_or_refused(key: bytes, value: bytes) -> None:
    digest(value)
    with contextlib.suppress(RecordError):
        decode_record(key, value)


@settings(max_examples=500)
@given(st.text(max_size=200), st.integers())
def test_C24_any_text_as_host_and_port_is_read_or_refused(host: str, port: int) -> None:
    digest(f"{host}:{port}".encode(errors="replace"))
