"""The file's form: what was written is read, whatever it was, and everything else is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.history import KeyValue
from ambcore.remembered import MOST, decode, encode
from ambcore.replay import Snapshot
from ambcore.schema import MAX_KEY, MAX_VALUE

PREFIX = "/services/redis-A/"
NUMBERS = st.integers(0, (1 << 64) - 1)
ITEMS = st.builds(
    lambda name, value, revision, lease: KeyValue(PREFIX.encode() + name, value, revision, lease),
    st.binary(max_size=40),
    st.binary(max_size=200),
    NUMBERS,
    NUMBERS,
)
SNAPSHOT = Snapshot((KeyValue(f"{PREFIX}one".encode(), b'{"host": "10.0.0.1"}', 5, 7),), 9, 11, 2)


@given(st.builds(Snapshot, st.lists(ITEMS, unique_by=lambda item: item.key).map(tuple), NUMBERS, NUMBERS, NUMBERS))
def test_what_was_written_is_read(snapshot: Snapshot) -> None:
    assert decode(PREFIX, encode(PREFIX, snapshot)) == snapshot


def test_text_reads_as_text() -> None:
    """Somebody who looks for a fault can read the file."""
    assert b'/services/redis-A/one","{\\"host\\": \\"10.0.0.1\\"}' in encode(PREFIX, SNAPSHOT)


def test_what_no_reader_would_take_is_not_written() -> None:
    long = KeyValue(PREFIX.encode() + b"k" * MAX_KEY, b"", 1), KeyValue(PREFIX.encode(), b"v" * (MAX_VALUE + 1), 1)
    many = (KeyValue(f"{PREFIX}{number}".encode(), b"", 1) for number in range(MOST + 1))
    assert decode(PREFIX, encode(PREFIX, Snapshot((*long, *SNAPSHOT.items), 9))).items == SNAPSHOT.items
    assert len(decode(PREFIX, encode(PREFIX, Snapshot(tuple(many), 9))).items) == MOST


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(encode(PREFIX, SNAPSHOT)) | fields).encode()


ENTRY = [f"{PREFIX}one", "", 1, 0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "."),
        (b"\x00" * 4096, "."),
        (encode(PREFIX, SNAPSHOT)[:-20], "."),
        (b"[" * 200_000, "nested"),
        (b"7", "format"),
        (b"1" * 5000, "."),
        (changed(format=2), "format"),
        (changed(prefix="/services/other/"), "another prefix"),
        (changed(revision=-1), "numbers"),
        (changed(cluster=1 << 64), "numbers"),
        (changed(term=True), "numbers"),
        (changed(revision=None), "numbers"),
        (changed(records={}), "records"),
        (changed(records=[ENTRY] * (MOST + 1)), "at most"),
        (changed(records=[ENTRY, ENTRY]), "twice"),
        (changed(records=[ENTRY[:3]]), "a record is"),
        (changed(records=[["/services/other/one", "", 1, 0]]), "not of this prefix"),
        (changed(records=[[PREFIX + "k" * MAX_KEY, "", 1, 0]]), "too long"),
        (changed(records=[[PREFIX, "v" * (MAX_VALUE + 1), 1, 0]]), "too long"),
        (changed(records=[[PREFIX, "\u20ac", 1, 0]]), "latin-1"),
        (changed(records=[[PREFIX, 3, 1, 0]]), "texts"),
        (changed(records=[[PREFIX, "", 1.0, 0]]), "numbers"),
    ],
)
def test_everything_else_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(PREFIX, data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which one it is does not matter
        decode(PREFIX, data)
