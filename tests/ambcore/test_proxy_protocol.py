"""The PROXY protocol's headers, byte by byte as the specification has them."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ambcore.errors import ProxyHeaderError
from ambcore.model import Protocol
from ambcore.proxy_protocol import MAX_V1, MAX_V2, SIGNATURE, End, Header, decode, encode, local

FOUR, FOUR_TO = ("192.168.0.1", 56324), ("192.168.0.11", 443)
SIX, SIX_TO = ("2001:db8::1", 56324), ("2001:db8::2", 443)

ports = st.integers(0, 65535)
hosts4 = st.ip_addresses(v=4).map(str)
hosts6 = st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:"))
pairs = st.sampled_from([hosts4, hosts6]).flatmap(
    lambda hosts: st.tuples(st.tuples(hosts, ports), st.tuples(hosts, ports))
)
versions = st.sampled_from([1, 2])
headers = st.builds(lambda version, ends: encode(version, *ends), versions, pairs) | versions.map(local)


def v2(command: int, kind: int, rest: bytes = b"", length: int | None = None) -> bytes:
    """A binary header made by hand."""
    return SIGNATURE + struct.pack("!BBH", command, kind, len(rest) if length is None else length) + rest


FOUR_PART = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + struct.pack("!HH", 56324, 443)


@pytest.mark.parametrize(
    ("version", "source", "destination", "transport", "expected"),
    [
        (1, FOUR, FOUR_TO, Protocol.TCP, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
        (1, SIX, SIX_TO, Protocol.TCP, b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"),
        (1, ("::ffff:192.168.0.1", 1), FOUR_TO, Protocol.TCP, b"PROXY TCP4 192.168.0.1 192.168.0.11 1 443\r\n"),
        (1, FOUR, FOUR_TO, Protocol.UDP, b"PROXY UNKNOWN\r\n"),
        (1, FOUR, SIX_TO, Protocol.TCP, b"PROXY UNKNOWN\r\n"),
        (2, FOUR, FOUR_TO, Protocol.TCP, bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c") + FOUR_PART),
        (2, FOUR, FOUR_TO, Protocol.UDP, bytes.fromhex("0d0a0d0a000d0a515549540a 21 12 000c") + FOUR_PART),
        (
            2,
            SIX,
            SIX_TO,
            Protocol.TCP,
            bytes.fromhex(
                "0d0a0d0a000d0a515549540a 21 21 0024"
                "20010db8000000000000000000000001 20010db8000000000000000000000002 dc04 01bb"
            ),
        ),
        (
            2,
            SIX,
            SIX_TO,
            Protocol.UDP,
            bytes.fromhex(
                "0d0a0d0a000d0a515549540a 21 22 0024"
                "20010db8000000000000000000000001 20010db8000000000000000000000002 dc04 01bb"
            ),
        ),
        (2, SIX, FOUR_TO, Protocol.TCP, bytes.fromhex("0d0a0d0a000d0a515549540a 21 00 0000")),
    ],
)
def test_a_header_is_written_as_the_specification_says(
    version: int, source: End, destination: End, transport: Protocol, expected: bytes
) -> None:
    assert encode(version, source, destination, transport) == expected


def test_a_check_says_that_it_speaks_for_nobody() -> None:
    assert local(1) == b"PROXY UNKNOWN\r\n"
    assert local(2) == bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")


def test_the_longest_lines_keep_to_the_limit() -> None:
    longest = "ffff:" * 7 + "ffff", 65535
    assert len(encode(1, longest, longest)) == 104
    worst = f"PROXY UNKNOWN {longest[0]} {longest[0]} 65535 65535\r\n".encode()
    assert len(worst) == MAX_V1
    assert decode(worst) == Header(MAX_V1)


@pytest.mark.parametrize(
    ("host", "port"), [("redis", 1), ("", 1), ("fe80::1%eth0", 1), ("10.0.0.1", -1), ("10.0.0.1", 65536)]
)
@pytest.mark.parametrize("version", [1, 2])
def test_no_header_is_made_of_what_is_no_address(version: int, host: str, port: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode(version, (host, port), FOUR_TO)


@given(versions, pairs, st.binary(max_size=40))
def test_what_is_written_is_read_again_and_what_follows_is_left(
    version: int, ends: tuple[End, End], follows: bytes
) -> None:
    data = encode(version, *ends)
    assert decode(data + follows) == Header(len(data), *ends)


@given(headers)
@example(b"PROXY UNKNOWN whatever 1 2 3\r\n")
@example(b"PROXY UNKNOWN \r\r\n")
@example(v2(0x21, 0x11, FOUR_PART + b"\x04\x00\x03abc"))
@example(v2(0x20, 0xFF, b"of no meaning"))
def test_C27_wherever_it_is_split_more_is_asked_for_until_it_is_whole(data: bytes) -> None:
    assert [decode(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert decode(data) is not None


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_the_documented_error(data: bytes) -> None:
    try:
        found = decode(data)
    except ProxyHeaderError:
        return
    assert found is None or found.size <= len(data)


@given(headers, st.data())
def test_a_damaged_header_is_read_as_some_header_or_refused(header: bytes, data: st.DataObject) -> None:
    """What is refused stays refused whatever follows, and what was read stays read."""
    damaged = bytearray(header)
    damaged[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    seen: Header | str | None = None
    for end in range(len(damaged) + 1):
        try:
            now: Header | str | None = decode(bytes(damaged[:end]))
        except ProxyHeaderError:
            now = "refused"
        assert seen in (None, now)
        seen = now


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
        b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        b"PROXY TCP4 192.168.0.1\t192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 00 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",
        b"PROXY TCP4 192.168.000.1 192.168.0.11 1 443\r\n",
        b"PROXY TCP4 192.168.0.256 192.168.0.11 1 443\r\n",
        b"PROXY TCP4 192.168.1 192.168.0.11 1 443\r\n",
        b"PROXY TCP4 ::1 ::1 1 443\r\n",
        b"PROXY TCP6 10.0.0.1 10.0.0.2 1 443\r\n",
        b"PROXY TCP6 ::1::2 ::1 1 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n",
        b"PROXY TCP5 10.0.0.1 10.0.0.2 1 443\r\n",
        b"PROXY UDP4 10.0.0.1 10.0.0.2 1 443\r\n",
        b"PROXY tcp4 10.0.0.1 10.0.0.2 1 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN\r\r\n",
        b"PROXY \r\n",
        b"proxy UNKNOWN\r\n",
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 \xd9\xa1.0.0.1 10.0.0.2 1 443\r\n",
    ],
)
def test_C27_a_line_that_is_not_exact_is_refused(line: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        decode(line)


def test_C27_an_oversize_line_is_refused_as_soon_as_it_is_one() -> None:
    line = b"PROXY UNKNOWN " + b"x" * MAX_V1
    assert decode(line[: MAX_V1 - 1]) is None
    with pytest.raises(ProxyHeaderError, match="more than 107 bytes"):
        decode(line[:MAX_V1])
    with pytest.raises(ProxyHeaderError, match="more than 107 bytes"):
        decode(line[:MAX_V1] + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        v2(0x11, 0x11, FOUR_PART),  # version 1 in the binary format
        v2(0x31, 0x11, FOUR_PART),
        v2(0x22, 0x11, FOUR_PART),  # an unknown command
        v2(0x2F, 0x11, FOUR_PART),
        v2(0x21, 0x13, FOUR_PART),  # an unknown transport
        v2(0x21, 0x10, FOUR_PART),
        v2(0x21, 0x01, FOUR_PART),
        v2(0x21, 0x41, FOUR_PART),  # an unknown family
        v2(0x21, 0x11, FOUR_PART[:-1]),  # no room for the addresses
        v2(0x21, 0x21, FOUR_PART),
        v2(0x21, 0x31, b"/run/one"),
        v2(0x21, 0x11, FOUR_PART, MAX_V2 - 15),
        v2(0x20, 0x00, b"", 0xFFFF),
        SIGNATURE[:-1] + b"\r\x21\x11\x00\x0c" + FOUR_PART,
    ],
)
def test_C27_a_binary_header_that_is_not_exact_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 10.0.0.1 10.0.0.2 1 2\r\n",
        v2(0x20, 0x00),
        v2(0x20, 0x11, FOUR_PART),  # HAProxy's checks once said both
        v2(0x20, 0x77, b"unknown, and not looked at"),
        v2(0x21, 0x00),
        v2(0x21, 0x00, b"\x04\x00\x01x"),
        v2(0x21, 0x31, bytes(216)),
        v2(0x21, 0x32, bytes(216) + b"\x04\x00\x00"),
    ],
)
def test_C27_one_that_names_nobody_leaves_the_connections_own_ends(data: bytes) -> None:
    assert decode(data + b"what follows") == Header(len(data))


def test_what_stands_behind_the_addresses_is_passed_over() -> None:
    """Extensions (TLVs) belong to the header, whatever they say."""
    data = v2(0x21, 0x11, FOUR_PART + b"\x03\x00\x04\xa9\xb8\x7e\x8f" + b"\xff" * 400)
    assert decode(data + b"PING") == Header(len(data), FOUR, FOUR_TO)


def test_the_longest_that_is_taken_is_taken() -> None:
    data = v2(0x21, 0x11, FOUR_PART + bytes(MAX_V2 - 16 - 12))
    assert decode(data) == Header(MAX_V2, FOUR, FOUR_TO)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP6 ::ffff:192.168.0.1 ::ffff:192.168.0.11 56324 443\r\n",
        b"PROXY TCP6 ::FFFF:c0a8:1 ::ffff:c0a8:b 56324 443\r\n",
        v2(
            0x21,
            0x21,
            ipaddress.ip_address("::ffff:192.168.0.1").packed
            + ipaddress.ip_address("::ffff:192.168.0.11").packed
            + struct.pack("!HH", 56324, 443),
        ),
    ],
)
def test_a_mapped_address_is_the_one_it_stands_for(data: bytes) -> None:
    assert decode(data) == Header(len(data), FOUR, FOUR_TO)
