"""The frames between a worker of the relay and its parent."""

from __future__ import annotations

import json

from ambnet.relay.limits import Limits
from ambnet.relay.protocol import (
    HEADER,
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
    changes,
    encode,
)
from ambnet.relay.upstream import Endpoint
from fuzz.feed import Feed

ONE, OTHER = Endpoint("one", "10.0.0.1", 80), Endpoint("two", "2001:db8::7", 80, 3, False, False)
MESSAGES: tuple[Message, ...] = (
    Ready(),
    Configure((RouteSetup("a", (3, 4)),), Limits(), allow=("10.0.0.0/8",), accept_proxy=("::/0",)),
    RouteSetup("a/udp", (5,), udp_idle=1.0),
    Endpoints("a", 1, (ONE, OTHER)),
    Endpoints("a", 1, None),
    changes("a", 2, [ONE], [OTHER]),
    Changes("a", 3, (ONE,), (("two", "10.0.0.2", 80),)),
    Close("a", "::", 80),
    Drain(1.5),
    Applied("a", 2),
    Stats(3, {"a": ServiceStats(1, {"parked": 1}, {"one": InstanceStats(1, 2)}, ("two",))}),
    Event("info", "a line \u202e"),
)
MAX_WHOLE = 4096  # bytes of a stream that is also fed byte by byte


def frame(data: bytes) -> None:
    """Messages of ours, one with something changed, and the bytes: cut anywhere they come to the same."""
    feed = Feed(data)
    stream = b""
    for _ in range(feed.below(3)):
        message = feed.pick(MESSAGES)
        assert _told(encode(message)) == [message]
        stream += encode(message)
    if feed.byte() % 2:
        body = json.loads(encode(feed.pick(MESSAGES))[HEADER.size :])
        text = json.dumps(feed.changed(body)).encode()
        stream += HEADER.pack(len(text)) + text
    stream += feed.rest()
    whole = _told(stream)
    if len(stream) <= MAX_WHOLE:
        assert _told(stream, 1) == whole
    assert _told(stream, 7) == whole


def _told(stream: bytes, size: int = 0) -> list[Message | str]:
    """The messages of a stream that comes in pieces of `size` bytes, up to the first that is none."""
    frames, told = Frames(), list[Message | str]()
    for start in range(0, len(stream), size or len(stream) or 1):
        try:
            for message in frames.feed(stream[start : start + size] if size else stream):
                told.append(repr(message) if "nan" in repr(message) else message)
        except ValueError as error:
            return [*told, str(error)]
    return told
