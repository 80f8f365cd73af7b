"""What the kernel answers by netlink, which we take apart byte by byte."""

from __future__ import annotations

import contextlib
import struct

from dynproxy.conntrack import Which, decode
from dynproxy.filter_state import _counted, _keys
from dynproxy.netlink import HEADER, attribute, attributes, messages
from fuzz.feed import Feed

EXPECTED = (ValueError, struct.error, UnicodeDecodeError)
WHICH = Which(2, frozenset({1}), 0xFFFFF, 6, frozenset({80}))


def netlink(data: bytes) -> None:
    """The bytes as messages, and as the attributes of a connection, a set and a counter."""
    feed = Feed(data)
    stream = _nested(feed, 3) if feed.byte() % 2 else feed.rest()
    try:
        for _, _, start, end in messages(stream):
            assert 0 <= start < end <= len(stream)
            assert end - start >= HEADER.size
    except EXPECTED:
        pass
    try:
        for _, first, last in attributes(stream, 0, len(stream)):
            assert 0 <= first <= last <= len(stream)
    except EXPECTED:
        pass
    for read in (_connection, _set, _counter):
        with contextlib.suppress(*EXPECTED):
            read(stream)


def _connection(stream: bytes) -> None:
    flow = decode(stream, 0, len(stream))
    WHICH.means(flow)
    for ends in (flow.original, flow.reply):
        assert 0 <= ends.source_port <= 65535
        assert 0 <= ends.destination_port <= 65535
    assert flow.answered in (True, False)
    assert flow.established in (True, False)


def _set(stream: bytes) -> None:
    for first, last in _keys(stream, 0, len(stream)):
        assert 0 <= first <= last <= len(stream)


def _counter(stream: bytes) -> None:
    assert _counted(stream, 0, len(stream)).packets >= 0


def _nested(feed: Feed, depth: int) -> bytes:
    """Attributes within attributes."""
    made = b""
    while feed.more and len(made) < 512:
        kind = feed.below(24)
        inner = _nested(feed, depth - 1) if depth and feed.byte() % 2 else feed.piece(20)
        made += attribute(kind, inner)
        if feed.byte() % 4 == 0:
            break
    return made
