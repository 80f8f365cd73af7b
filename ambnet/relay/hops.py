"""How often a connection may still be passed on: proxies that lead to each other must not pass it on for ever.

A packet that goes in a circle ends when its hops are used up. A relay ends one connection and begins another, whose
hops would be counted from the start; so where a relay is crowded, as a circle makes it at once, a connection is begun
with one hop less than its client's had. Elsewhere nothing is asked, as that would cost each connection two calls.
"""

from __future__ import annotations

import socket

from ambnet.relay.sockets import Socket

CROWD = 1000  # connections at once, or half of those that fit, from which on hops are counted
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28  # linux/tcp.h
ROOM = 512  # bytes for the packet: headers of IP and TCP with all their options
UNKNOWN = 0


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


def limit_hops(sock: Socket, hops: int) -> None:
    """Have a connection begin with so many hops."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
