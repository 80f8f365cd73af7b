"""The PROXY protocol: the header in front of a connection's bytes that says whom it is made for. Pure.

Versions 1 (a line of text) and 2 (binary), after "The PROXY protocol", doc/proxy-protocol.txt of HAProxy, sections 2.1
and 2.2. Who may send one has to be known beforehand: nothing here guesses whether bytes are a header.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ambcore.errors import ProxyHeaderError
from ambcore.model import Protocol, parse_ip

End = tuple[str, int]  # an IP literal and a port, 0 included: a header may say that

MAX_V1: Final = 107  # bytes, the line's end included
MAX_V2: Final = 4096  # bytes, as nginx takes; the format's own limit is 65,551, which no sender is near

V1_START: Final = b"PROXY "
UNKNOWN: Final = b"PROXY UNKNOWN\r\n"
LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})\r\n")
UNKNOWN_LINE: Final = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n")

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED: Final = struct.Struct("!12sBBH")  # signature, version and command, family and transport, length of the rest
LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED: Final = 0x00
# family and transport -> the layout of both addresses and ports; UNIX sockets have no address that is of use to us
INET: Final = struct.Struct("!4s4sHH")
INET6: Final = struct.Struct("!16s16sHH")
UNIX: Final = struct.Struct("!108s108s")
LAYOUTS: Final[Mapping[int, struct.Struct]] = {
    UNSPECIFIED: struct.Struct(""),
    0x11: INET,
    0x12: INET,
    0x21: INET6,
    0x22: INET6,
    0x31: UNIX,
    0x32: UNIX,
}
TRANSPORTS: Final[Mapping[Protocol, int]] = {Protocol.TCP: 1, Protocol.UDP: 2}


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header of `size` bytes. Without `source` and `destination` the connection's own ends hold.

    An IPv4-mapped IPv6 address is given as the IPv4 address that it stands for.
    """

    size: int
    source: End | None = None
    destination: End | None = None


def encode(version: int, source: End, destination: End, transport: Protocol = Protocol.TCP) -> bytes:
    """The header for what `source` sends to `destination`, in version 1 or 2.

    It names no addresses where it cannot: those of two families, and datagrams in version 1. Raises ValueError for what
    is no IP literal or no port.
    """
    ends = parse_ip(source[0]), parse_ip(destination[0])
    ports = source[1], destination[1]
    if not all(0 <= port <= 65535 for port in ports):
        raise ValueError(f"a port is a number from 0 to 65535, not {ports}")
    family = ends[0].version if ends[0].version == ends[1].version else None
    if version == 1:
        if family is None or transport is not Protocol.TCP:
            return UNKNOWN
        return f"PROXY TCP{family} {ends[0]} {ends[1]} {ports[0]} {ports[1]}\r\n".encode()
    if family is None:
        return FIXED.pack(SIGNATURE, PROXY, UNSPECIFIED, 0)
    kind = (0x10 if family == 4 else 0x20) | TRANSPORTS[transport]
    layout = LAYOUTS[kind]
    fixed = FIXED.pack(SIGNATURE, PROXY, kind, layout.size)
    return fixed + layout.pack(ends[0].packed, ends[1].packed, *ports)


def local(version: int) -> bytes:
    """The header of a connection that its sender makes for itself, as a health check is."""
    return UNKNOWN if version == 1 else FIXED.pack(SIGNATURE, LOCAL, UNSPECIFIED, 0)


def decode(data: bytes) -> Header | None:
    """The header that `data`, the first bytes of a connection, begin with; None while more is needed.

    Raises ProxyHeaderError as soon as it is certain that they are none.
    """
    if data.startswith(SIGNATURE):
        return _decode_v2(data)
    if data.startswith(V1_START):
        return _decode_v1(data)
    if SIGNATURE.startswith(data) or V1_START.startswith(data):
        return None
    raise ProxyHeaderError("no header of the PROXY protocol")


def _decode_v1(data: bytes) -> Header | None:
    size = data.find(b"\n", 0, MAX_V1) + 1
    if not size:
        if len(data) >= MAX_V1:
            raise ProxyHeaderError(f"a header of more than {MAX_V1} bytes")
        return None
    line = bytes(data[:size])
    if UNKNOWN_LINE.fullmatch(line):
        return Header(size)
    found = LINE.fullmatch(line)
    if found is None:
        raise ProxyHeaderError("a line that is not of version 1")
    version, *hosts, source_port, destination_port = (group.decode("ascii") for group in found.groups())
    source, destination = (_host(int(version), host) for host in hosts)
    return Header(size, (source, _port(source_port)), (destination, _port(destination_port)))


def _host(version: int, text: str) -> str:
    """The canonical form. inet_ntop writes a mapped address with dots, and so do senders that listen on both families.

    Raises ProxyHeaderError.
    """
    try:
        if ipaddress.ip_address(text).version == version:
            return str(parse_ip(text))
    except ValueError:
        pass
    raise ProxyHeaderError(f"not an IPv{version} address: {text}")


def _port(text: str) -> int:
    if (port := int(text)) > 65535:
        raise ProxyHeaderError(f"not a port: {text}")
    return port


def _decode_v2(data: bytes) -> Header | None:
    if len(data) < FIXED.size:
        _check_kind(*data[len(SIGNATURE) : len(SIGNATURE) + 2])
        return None
    _, command, kind, length = FIXED.unpack_from(data)
    layout = _check_kind(command, kind)
    size = FIXED.size + length
    if length < layout.size:
        raise ProxyHeaderError(f"{length} bytes for addresses of {layout.size}")
    if size > MAX_V2:
        raise ProxyHeaderError(f"a header of more than {MAX_V2} bytes")
    if len(data) < size:
        return None
    if layout not in (INET, INET6):
        return Header(size)
    source, destination, *ports = layout.unpack_from(data, FIXED.size)
    hosts = [str(parse_ip(str(ipaddress.ip_address(packed)))) for packed in (source, destination)]
    return Header(size, (hosts[0], ports[0]), (hosts[1], ports[1]))


def _check_kind(command: int = PROXY, kind: int = UNSPECIFIED) -> struct.Struct:
    """The layout of what follows. A receiver does not look at the family of a LOCAL one. Raises ProxyHeaderError."""
    if command not in (LOCAL, PROXY):
        raise ProxyHeaderError(f"version and command {command:#04x}")
    if command == LOCAL:
        return LAYOUTS[UNSPECIFIED]
    if kind not in LAYOUTS:
        raise ProxyHeaderError(f"family and transport {kind:#04x}")
    return LAYOUTS[kind]
