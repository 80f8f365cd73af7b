"""The kernel's connection tracking: which connections an instance has, and how to end or forget them.

Follows include/uapi/linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h and nf_conntrack_tcp.h. A connection
belongs to an instance by its mark. The kernel picks by mark while it lists, so that other people's entries cost us
nothing; what is asked beyond that is decided here, for old kernels ignore what they do not know.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice
from operator import and_, or_
from typing import NamedTuple

from ambnet.threads import in_thread
from dynproxy.netlink import ATTRIBUTE, BATCH, Netlink, NetlinkError, attribute, attributes

NEW, GET, DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8, and IPCTNL_MSG_CT_*

TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, TIMEOUT, MARK, ID, ZONE, MARK_MASK = 1, 2, 3, 4, 7, 8, 12, 18, 21  # CTA_*
TUPLE_IP, TUPLE_PROTO = 1, 2
PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT = 1, 2, 3
SOURCES, DESTINATIONS = {1, 3}, {2, 4}  # CTA_IP_V4_SRC and CTA_IP_V6_SRC, and the same of DST
PROTOINFO_TCP, PROTOINFO_TCP_STATE = 1, 1

SEEN_REPLY = 1 << 1  # IPS_SEEN_REPLY
SYN_SENT, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, TIME_WAIT, CLOSE = 1, 3, 4, 5, 7, 8  # TCP_CONNTRACK_*
GOING_ON = {ESTABLISHED, FIN_WAIT, CLOSE_WAIT}  # half-closed ones still carry bytes the other way
OVER = {TIME_WAIT, CLOSE}

U32 = struct.Struct("!L")
U16 = struct.Struct("!H")
U8 = struct.Struct("B")
DOING = "connection tracking"


@dataclass(frozen=True, slots=True)
class Which:
    """The connections meant: `mark & mask` is one of `marks`. `family` is AF_INET or AF_INET6, `protocol` IPPROTO_…

    `ports` and `address` are where the clients came to: another proxy in this network namespace may use the same marks.
    """

    family: int
    marks: frozenset[int]
    mask: int
    protocol: int | None = None
    ports: frozenset[int] | None = None
    address: str | None = None

    def means(self, flow: Flow) -> bool:
        """Whether this is one of them."""
        return (
            flow.mark & self.mask in self.marks
            and self.protocol in {None, flow.protocol}
            and (self.ports is None or flow.original.destination_port in self.ports)
            and self.address in {None, flow.original.destination}
        )


class Ends(NamedTuple):
    """Where the packets of one direction come from and go to. Ports are 0 for a protocol without."""

    source: str
    source_port: int
    destination: str
    destination_port: int


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry. `timeout` is what it has left in whole seconds, None if that is not for the clock to say; `status` the
    IPS_* bits, `tcp_state` one of TCP_CONNTRACK_*, None for others.

    `key` names this very entry to the kernel: its tuple and its id. A later flow of the same tuple has another id,
    unless it happens to lie in the same place of the kernel's memory, as the next attempt of a client does.
    """

    mark: int
    status: int
    timeout: int | None
    tcp_state: int | None
    key: bytes
    _original: bytes
    _reply: bytes

    @property
    def protocol(self) -> int:
        """IPPROTO_TCP, IPPROTO_UDP or another."""
        return _tuple(self._original)[0]

    @property
    def original(self) -> Ends:
        """As the client sends."""
        return _tuple(self._original)[1]

    @property
    def reply(self) -> Ends:
        """As the answers come: its source is the instance, whatever address the client knows."""
        return _tuple(self._reply)[1]

    @property
    def answered(self) -> bool:
        """Whether the other side ever spoke. A TCP connection must also have got further than its SYN."""
        return bool(self.status & SEEN_REPLY) and self.tcp_state != SYN_SENT

    @property
    def established(self) -> bool:
        """Whether it can still carry something; a UDP flow can as long as it is remembered."""
        return self.answered if self.tcp_state is None else self.tcp_state in GOING_ON


def flows(which: Which) -> Iterator[Flow]:
    """The entries as the kernel lists them, a few at a time; raises NetlinkError.

    One that moves in the meantime may come twice. Listing 100,000 blocks for about a second: run it in a thread.
    """
    with Netlink(DOING) as kernel:
        for data, start, end in kernel.dump(GET, which.family, _filter(which)):
            try:
                flow = decode(data, start, end)
                meant = which.means(flow)
            except (ValueError, struct.error) as error:
                raise NetlinkError(DOING, f"an entry cannot be read: {error}") from error
            if meant:
                yield flow


def delete(family: int, entries: Iterable[Flow]) -> int:
    """Delete these entries; how many there still were. Raises NetlinkError.

    Takes them as they come, and deletes while they are still being listed. About 3 µs each.
    """
    deleted = 0
    remaining = iter(entries)
    with Netlink(DOING) as kernel:
        while batch := [flow.key for flow in islice(remaining, BATCH)]:
            deleted += kernel.order(DELETE, family, batch, absorbed={errno.ENOENT})
    return deleted


async def delete_all(which: Which) -> int:
    """Cut every connection; how many that were. Change the rules first, or the next packet is taken for a new one.

    Either end is reset when it next sends, at once; one that only reads is told nothing. An entry that is made at this
    very moment may be missed.
    """
    return await in_thread(partial(_delete_those, which, lambda _: True), "conntrack")


async def delete_unanswered(which: Which) -> int:
    """Forget the attempts nobody answered, so that the client's next packet is balanced anew; how many that were."""
    return await in_thread(partial(_delete_those, which, lambda flow: not flow.answered), "conntrack")


async def delete_ended(which: Which, own: Callable[[int], Set[Ends]] = lambda _: frozenset()) -> int:
    """Forget TCP connections that both ends have closed, or one has reset; how many that were.

    `own` tells the connections of this machine's own sockets of a family, as their packets come. While nothing was
    tracked one of them may have taken a client's way to an instance: that client's is over, too, whatever was seen.
    """

    def work() -> int:
        sockets = own(which.family)
        ways = {flow.reply for flow in flows(which) if flow.reply in sockets} if sockets else set()
        taken = _untracked(which.family, ways)
        return _delete_those(which, lambda flow: flow.tcp_state in OVER or (taken and flow.reply in taken))

    return await in_thread(work, "conntrack")


async def count(which: Which, *, established: bool = False) -> Counter[int]:
    """How many entries each of the marks has; only connections that go on if `established`."""

    def work() -> Counter[int]:
        return Counter(flow.mark & which.mask for flow in flows(which) if flow.established or not established)

    return await in_thread(work, "conntrack")


def _untracked(family: int, ways: Set[Ends]) -> Set[Ends]:
    """Those ways from an instance to a socket of ours that are no tracked connection's own.

    One that was tracked from the beginning was given another port where its own was taken.
    """
    if not ways:
        return ways
    every = (flow.original for flow in flows(Which(family, frozenset({0}), 0)))
    return ways - {Ends(way.destination, way.destination_port, way.source, way.source_port) for way in every}


def _delete_those(which: Which, meant: Callable[[Flow], object]) -> int:
    """Those with less than a second left are let end: a client's next attempt, which may have gone to somebody else,
    could have taken such a one's place and name before it is deleted.
    """
    return delete(which.family, (flow for flow in flows(which) if flow.timeout != 0 and meant(flow)))


def _filter(which: Which) -> bytes:
    """What the kernel is asked for: the bits that all marks have in common."""
    if not which.marks:
        raise ValueError("whose connections?")
    ones, zeros = reduce(and_, which.marks), ~reduce(or_, which.marks)
    mask = which.mask & (ones | zeros)
    return attribute(MARK, U32.pack(ones & mask)) + attribute(MARK_MASK, U32.pack(mask))


def decode(data: bytes, start: int, end: int) -> Flow:
    """One entry out of its attributes; raises ValueError or struct.error when it is not one."""
    mark = status = 0
    timeout = tcp_state = None
    key = original = reply = b""
    for kind, first, last in attributes(data, start, end):
        if kind == TUPLE_ORIG:
            original = data[first:last]
        elif kind == TUPLE_REPLY:
            reply = data[first:last]
        elif kind == STATUS:
            (status,) = U32.unpack_from(data, first)
        elif kind == TIMEOUT:
            (timeout,) = U32.unpack_from(data, first)
        elif kind == MARK:
            (mark,) = U32.unpack_from(data, first)
        elif kind == PROTOINFO:
            tcp_state = _tcp_state(data, first, last)
        if kind in {TUPLE_ORIG, ID, ZONE}:
            key += data[first - ATTRIBUTE.size : last] + bytes(-last % 4)
    if not original or not reply:
        raise ValueError("no addresses")
    return Flow(mark, status, timeout, tcp_state, key, original, reply)


def _tcp_state(data: bytes, start: int, end: int) -> int | None:
    for kind, first, last in attributes(data, start, end):
        if kind == PROTOINFO_TCP:
            for inner, at, _ in attributes(data, first, last):
                if inner == PROTOINFO_TCP_STATE:
                    return int(U8.unpack_from(data, at)[0])
    return None


def _tuple(data: bytes) -> tuple[int, Ends]:
    """A direction's protocol and its ends."""
    source = destination = ""
    protocol = source_port = destination_port = 0
    for kind, first, last in attributes(data, 0, len(data)):
        for inner, at, end in attributes(data, first, last):
            if kind == TUPLE_IP and inner in SOURCES:
                source = _address(data[at:end])
            elif kind == TUPLE_IP and inner in DESTINATIONS:
                destination = _address(data[at:end])
            elif kind == TUPLE_PROTO and inner == PROTO_NUM:
                (protocol,) = U8.unpack_from(data, at)
            elif kind == TUPLE_PROTO and inner == PROTO_SRC_PORT:
                (source_port,) = U16.unpack_from(data, at)
            elif kind == TUPLE_PROTO and inner == PROTO_DST_PORT:
                (destination_port,) = U16.unpack_from(data, at)
    return protocol, Ends(source, source_port, destination, destination_port)


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
