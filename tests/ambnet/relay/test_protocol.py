"""Messages between a worker and its parent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambnet.relay.limits import Limits
from ambnet.relay.protocol import (
    HEADER,
    MAX_FRAME,
    Applied,
    Changes,
    Close,
    Configure,
    Drain,
    Endpoints,
    Event,
    Frames,
    InstanceStats,
    Message,
    Ready,
    RouteSetup,
    ServiceStats,
    Stats,
    decode,
    encode,
)
from ambnet.relay.upstream import Endpoint

ENDPOINTS = (Endpoint("redis-1@höst", "10.0.0.1", 49153), Endpoint("b", "2001:db8::1", 1, 256, False))
MESSAGES: list[Message] = [
    Configure((RouteSetup("redis-A", (3, 4), "source-hash", 2.5),), Limits(park=1.0, max_connections=7), 3.0, "debug"),
    Configure((RouteSetup("redis-A", ()),)),
    Configure((), allow=("10.0.0.0/8",), accept_proxy=("::1/128", "127.0.0.1/32")),
    RouteSetup("dns/udp", (7,), "random", 0.0, 2, 5.0),
    Close("redis-A", "::", 6379),
    Endpoints("redis-A", 7, ENDPOINTS),
    Endpoints("redis-A", 8, ()),
    Endpoints("redis-A", 9, None),
    Changes("redis-A", 10, ENDPOINTS, (("a", "10.0.0.9", 80), ("b", "2001:db8::2", 1))),
    Drain(30.0),
    Ready(),
    Applied("redis-A", 7),
    Stats(3, {"redis-A": ServiceStats(1, {"accepted": 5}, {"b": InstanceStats(1, 2, 3, 4, 5, True)}, ("c",))}),
    Event("warning", 'quoted "text"\nsecond line \u2028'),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    frame = encode(message)
    assert HEADER.unpack_from(frame) == (len(frame) - HEADER.size,)
    assert decode(frame[HEADER.size :]) == message


@given(st.lists(st.integers(1, 40)))
def test_messages_come_whole_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(map(encode, MESSAGES))
    frames = Frames()
    got: list[Message] = []
    for size in cuts:
        got += frames.feed(stream[:size])
        stream = stream[size:]
    got += frames.feed(stream)
    assert got == MESSAGES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"type": "Nonsense"}',
        b'{"type": []}',
        b'{"type": "Drain"}',
        b'{"type": "Drain", "seconds": 1, "more": 2}',
        b'{"type": "Endpoints", "service": "a", "generation": 1, "endpoints": [[]]}',
        b"[" * 100_000,
    ],
)
def test_anything_else_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a message|Expecting|decode"):
        decode(body)


def test_a_frame_that_claims_too_much_is_refused_before_it_is_collected() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        list(Frames().feed(HEADER.pack(MAX_FRAME + 1)))


def test_a_hundred_thousand_instances_fit_in_a_frame() -> None:
    row = Endpoint("a-container-with-a-long-name.service@a-host-with-a-long-name", "2001:db8:1234:5678::9abc", 65535)
    assert len(json.dumps([row] * 1000)) * 100 < MAX_FRAME
