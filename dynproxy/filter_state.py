"""Small questions to the packet filter by netlink: asked every few seconds, where starting `nft` would cost too much.

Follows include/uapi/linux/netfilter/nf_tables.h. A question takes some 30 µs, whatever the size of the table.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dynproxy.netlink import Netlink, NetlinkError, attribute, attributes

TABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
GET_CHAINS, GET_RULES = TABLES | 4, TABLES | 7  # NFT_MSG_GET…
GET_ELEMENTS, GET_GENERATION, GET_OBJECTS_RESET = TABLES | 13, TABLES | 16, TABLES | 21
OF_TABLE = 1  # NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
GENERATION_ID = 1  # NFTA_GEN_ID
LIST_TABLE, LIST_SET, LIST_ELEMENTS, ELEMENT_KEY, VALUE = 1, 2, 3, 1, 1  # NFTA_SET_ELEM_LIST_*, _KEY, NFTA_DATA_VALUE
OBJECT_TABLE, OBJECT_NAME, OBJECT_TYPE, OBJECT_DATA = 1, 2, 3, 4  # NFTA_OBJ_*
COUNTER = 1  # NFT_OBJECT_COUNTER
COUNTER_BYTES, COUNTER_PACKETS = 1, 2  # NFTA_COUNTER_*

FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
U32, U64 = struct.Struct("!L"), struct.Struct("!Q")
DOING = "packet filter"


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter has counted since it was last asked."""

    name: str
    packets: int
    bytes: int


def generation() -> int | None:
    """How often anybody changed anything in this network namespace; None when the kernel does not say."""
    try:
        with Netlink(DOING) as kernel:
            for data, start, end in kernel.ask(GET_GENERATION):
                for kind, first, _ in attributes(data, start, end):
                    if kind == GENERATION_ID:
                        return int(U32.unpack_from(data, first)[0])
    except (NetlinkError, ValueError, struct.error):
        return None
    return None


def digest(family: str, table: str) -> int:
    """A number that stays as long as nobody touches a chain or a rule of a table. Raises NetlinkError.

    Each is told with the number that the kernel gave it: one that was replaced by its like is another.
    """
    told = []
    with Netlink(DOING) as kernel:
        try:
            for question in (GET_CHAINS, GET_RULES):
                for data, start, end in kernel.dump(question, FAMILIES[family], attribute(OF_TABLE, _text(table))):
                    if _table(data, start, end) == table:  # chains are told of every table
                        told.append(data[start:end])
        except (ValueError, struct.error) as error:
            raise NetlinkError(DOING, f"a chain or a rule cannot be read: {error}") from error
    return hash(tuple(told))


def _table(data: bytes, start: int, end: int) -> str:
    """The table that a chain or a rule is in."""
    return next((_name(data[a:b]) for kind, a, b in attributes(data, start, end) if kind == OF_TABLE), "")


def marks(family: str, table: str, name: str) -> frozenset[int]:
    """The elements of a set of connection marks. Raises NetlinkError; its errno is ENOENT if there is no such table."""
    body = attribute(LIST_TABLE, _text(table)) + attribute(LIST_SET, _text(name))
    with Netlink(DOING) as kernel:
        try:
            return frozenset(
                int.from_bytes(data[first:last], sys.byteorder)
                for data, start, end in kernel.dump(GET_ELEMENTS, FAMILIES[family], body)
                for first, last in _keys(data, start, end)
            )
        except (ValueError, struct.error) as error:
            raise NetlinkError(DOING, f"a set cannot be read: {error}") from error


def _keys(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where each key begins and ends."""
    for kind, first, last in attributes(data, start, end):
        if kind == LIST_ELEMENTS:
            for _, inner, until in attributes(data, first, last):
                for what, key, key_end in attributes(data, inner, until):
                    if what == ELEMENT_KEY:
                        yield from ((a, b) for value, a, b in attributes(data, key, key_end) if value == VALUE)


def take_counts(family: str, table: str) -> list[Counted]:
    """What each counter of a table has counted since this was last asked, by anybody; it begins anew. NetlinkError."""
    body = attribute(OBJECT_TABLE, _text(table)) + attribute(OBJECT_TYPE, U32.pack(COUNTER))
    with Netlink(DOING) as kernel:
        try:
            return [
                _counted(data, start, end)
                for data, start, end in kernel.dump(GET_OBJECTS_RESET, FAMILIES[family], body)
            ]
        except (ValueError, struct.error) as error:
            raise NetlinkError(DOING, f"a counter cannot be read: {error}") from error


def _counted(data: bytes, start: int, end: int) -> Counted:
    name, packets, size = "", 0, 0
    for kind, first, last in attributes(data, start, end):
        if kind == OBJECT_NAME:
            name = _name(data[first:last])
        elif kind == OBJECT_DATA:
            for inner, at, _ in attributes(data, first, last):
                if inner == COUNTER_PACKETS:
                    (packets,) = U64.unpack_from(data, at)
                elif inner == COUNTER_BYTES:
                    (size,) = U64.unpack_from(data, at)
    return Counted(name, packets, size)


def _text(name: str) -> bytes:
    return name.encode() + b"\0"


def _name(text: bytes) -> str:
    return text.rstrip(b"\0").decode()
