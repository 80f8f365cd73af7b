"""This machine's own addresses, and the one it would use towards somebody."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import sys
from pathlib import Path

from ambcore.model import IPAddress, parse_ip

SIOCGIFADDR = 0x8915  # include/uapi/linux/sockios.h
RTF_GATEWAY = 0x0002  # of a route that leads through another (include/uapi/linux/route.h)
DISCARD = 9  # any port does: connecting a datagram socket sends nothing


def local_addresses(proc: Path = Path("/proc/net")) -> frozenset[IPAddress]:
    """Every address this network namespace answers to, as the kernel's own tables list them.

    Read from `fib_trie` and `if_inet6` (man 5 proc_net); a table that does not exist, as where IPv6 is off, counts as
    empty.
    """
    found: set[IPAddress] = set()
    with contextlib.suppress(FileNotFoundError):
        last = ""
        for line in (proc / "fib_trie").read_text().splitlines():
            words = line.split()
            if words[:1] == ["|--"]:
                last = words[1]
            elif words == ["/32", "host", "LOCAL"]:
                found.add(ipaddress.IPv4Address(last))
    with contextlib.suppress(FileNotFoundError):
        for line in (proc / "if_inet6").read_text().splitlines():
            found.add(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
    return frozenset(found)


def source_address_towards(host: str, port: int = DISCARD) -> IPAddress | None:
    """The address this machine would send from to reach `host`, None if there is no route or no such name.

    Asks the routing table by connecting a datagram socket; nothing is sent.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # the latter of a label that no host can have
        return None
    for family, kind, protocol, _, address in infos:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return parse_ip(probe.getsockname()[0])
    return None


def interface_address(name: str) -> IPAddress | None:
    """The first IPv4 address of a network interface of ours; None without one (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("16s240x", name.encode()[:15]))
        return ipaddress.IPv4Address(answer[20:24])
    return None


def default_gateway(proc: Path = Path("/proc/net")) -> IPAddress | None:
    """Where this network namespace sends what it has no other route for, by IPv4; None if it has no such route."""
    with contextlib.suppress(FileNotFoundError):
        for line in (proc / "route").read_text().splitlines()[1:]:
            _, destination, gateway, flags, *_ = line.split()
            if int(destination, 16) == 0 and int(flags, 16) & RTF_GATEWAY:
                return ipaddress.IPv4Address(int(gateway, 16).to_bytes(4, sys.byteorder))
    return None
