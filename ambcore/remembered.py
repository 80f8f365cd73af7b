"""What a prefix held when etcd last told, as a file keeps it from one life of a program to the next.

One JSON object. Keys and values are bytes in etcd: each byte is the character of its number here, so that whatever they
are comes back as it was, and text reads as text. What is read is as little trusted as etcd's own records are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ambcore.history import KeyValue
from ambcore.replay import Snapshot
from ambcore.schema import MAX_KEY, MAX_VALUE

FORMAT = 1
MOST = 20_000  # records; twice what a service may have
LARGEST = 64 << 20  # bytes of a file


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was known, and how many seconds before it was read etcd had last proved it."""

    snapshot: Snapshot
    age: float


def encode(prefix: str, snapshot: Snapshot) -> bytes:
    """The file's contents. Records that no reader would take are left out, and those beyond MOST."""
    kept = [item for item in snapshot.items if len(item.key) <= MAX_KEY and len(item.value) <= MAX_VALUE][:MOST]
    document = {
        "format": FORMAT,
        "prefix": prefix,
        "cluster": snapshot.cluster_id,
        "term": snapshot.term,
        "revision": snapshot.revision,
        "records": [[_text(item.key), _text(item.value), item.revision, item.lease] for item in kept],
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode(prefix: str, data: bytes) -> Snapshot:
    """The inverse of `encode`; raises ValueError saying what is wrong with it."""
    if len(data) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    if document.get("prefix") != prefix:
        raise ValueError("it is about another prefix")
    records = document.get("records")
    if not isinstance(records, list) or len(records) > MOST:
        raise ValueError(f"expected at most {MOST} records")
    numbers = (_number(document.get(name)) for name in ("revision", "cluster", "term"))
    items = tuple(_record(prefix.encode(), entry) for entry in records)
    if len({item.key for item in items}) < len(items):
        raise ValueError("a key occurs twice")
    return Snapshot(items, *numbers)


def _record(prefix: bytes, entry: Any) -> KeyValue:
    if not isinstance(entry, list) or len(entry) != 4:
        raise ValueError("a record is a key, a value, a revision and a lease")
    key, value = _bytes(entry[0]), _bytes(entry[1])
    if not key.startswith(prefix) or len(key) > MAX_KEY or len(value) > MAX_VALUE:
        raise ValueError("a record is too long, or not of this prefix")
    return KeyValue(key, value, _number(entry[2]), _number(entry[3]))


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("keys and values are texts")  # noqa: TRY004 - it is the file's fault
    return value.encode("latin-1")  # raises UnicodeEncodeError, a ValueError


def _number(value: Any) -> int:
    """A number as etcd has them: of 64 bits, and not negative."""
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError("revisions, leases, clusters and terms are numbers")
    return value
