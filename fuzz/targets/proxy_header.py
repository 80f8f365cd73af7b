"""The PROXY protocol's header, from whoever connects where `--accept-proxy` believes it, and the one that we write."""

from __future__ import annotations

from ambcore.errors import ProxyHeaderError
from ambcore.model import Protocol, parse_ip
from ambcore.proxy_protocol import MAX_V1, MAX_V2, SIGNATURE, Header, decode, encode
from fuzz.feed import Feed

HOSTS = ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "0.0.0.0", "255.255.255.255", "::", "fe80::1")  # noqa: S104


def proxy(data: bytes) -> None:
    """The bytes as they are, behind a signature, or a header of ours with some of its bytes changed."""
    feed = Feed(data)
    match feed.below(4):
        case 0:
            _whole(feed.rest())
        case 1:
            _whole(SIGNATURE + feed.rest())
        case 2:
            _whole(b"PROXY TCP" + feed.rest())
        case _:
            _whole(_ours(feed))


def _ours(feed: Feed) -> bytes:
    """A header as `--send-proxy` writes it, which reads as it was meant; then perhaps damaged, with data behind it."""
    version, transport = feed.pick((1, 2)), feed.pick(tuple(Protocol))
    source, destination = ((feed.pick(HOSTS), feed.below(65536)) for _ in range(2))
    header = encode(version, source, destination, transport)
    found = decode(header)
    assert found is not None
    assert found.size == len(header)
    if found.source is not None:
        ends = tuple((str(parse_ip(host)), port) for host, port in (source, destination))
        assert (found.source, found.destination) == ends
    damaged = bytearray(header)
    for _ in range(feed.below(4)):
        damaged[feed.below(len(damaged))] = feed.byte()
    return bytes(damaged) + feed.rest()


def _whole(data: bytes) -> None:
    """All at once and cut anywhere come to the same; a header ends within its limits."""
    told = _verdict(data)
    if isinstance(told, Header):
        assert 0 < told.size <= (MAX_V2 if data.startswith(SIGNATURE) else MAX_V1)
        assert (told.source is None) == (told.destination is None)
        for host, port in (end for end in (told.source, told.destination) if end):
            assert str(parse_ip(host)) == host
            assert 0 <= port <= 65535
        assert decode(data[: told.size]) == told
        assert all(decode(data[:cut]) is None for cut in _cuts(told.size))
    elif told is None:
        assert len(data) < (MAX_V2 if SIGNATURE.startswith(data[: len(SIGNATURE)]) else MAX_V1)
        assert all(decode(data[:cut]) is None for cut in _cuts(len(data)))


def _verdict(data: bytes) -> Header | str | None:
    try:
        return decode(data)
    except ProxyHeaderError as error:
        return str(error)


def _cuts(size: int) -> range:
    """Every place to cut where there are few, else some forty."""
    return range(0, size, max(1, size // 40))
