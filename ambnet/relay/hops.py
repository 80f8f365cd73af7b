"""How often a client may still be passed on: proxies that lead to each other must not pass it on for ever.

A packet that goes in a circle ends when its hops are used up. A relay ends one connection and begins another, whose
hops would be counted from the start; so where a relay is crowded, as a circle makes it at once, a connection is begun
with one hop less than its client's had. Elsewhere nothing is asked, as that would cost each connection two calls. The
same holds for the sessions of datagrams, of which a single one would go round for ever.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

from ambnet.relay.sockets import Socket

CROWD = 1000  # connections at once, or half of those that fit, from which on hops are counted
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28  # linux/tcp.h
ROOM = 512  # bytes for the packet: headers of IP and TCP with all their options
IP_RECVTTL = 12  # linux/in.h
UNKNOWN = 0
TOLD = socket.CMSG_SPACE(4)  # bytes that a datagram's hops take among its control messages
KINDS = {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}


def crowd(cap: int) -> int:
    """From how many connections on hops are counted, where so many fit."""
    return min(CROWD, cap // 2)


def keep_hops(listener: socket.socket) -> None:
    """Have the kernel keep each client's first packet, some hundred bytes, for `hops_left`."""
    listener.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)


def hops_left(client: int) -> int:
    """With how many hops left a client's first packet came, UNKNOWN if the kernel does not say. It says so once."""
    sock = Socket(fileno=client)
    try:
        packet = sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, ROOM)
    except OSError:
        return UNKNOWN
    finally:
        sock.detach()
    if not packet:
        return UNKNOWN
    return packet[7] if packet[0] >> 4 == 6 else packet[8]


def tell_hops(sock: socket.socket) -> None:
    """Have each datagram say with how many hops left it came, IPv4 ones on an IPv6 socket as well."""
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


def hops_told(control: Iterable[tuple[int, int, bytes]]) -> int:
    """What a datagram's control messages say of its hops, UNKNOWN if nothing."""
    told = (data for level, kind, data in control if (level, kind) in KINDS)
    return int.from_bytes(next(told, b""), sys.byteorder)


def limit_hops(sock: Socket, hops: int) -> None:
    """Have a connection, or all datagrams, begin with so many hops."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
