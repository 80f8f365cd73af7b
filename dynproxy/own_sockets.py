"""The TCP connections of this network namespace's own sockets, as /proc/net/tcp tells them (proc(5))."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from dynproxy.conntrack import Ends

LISTENING = "0A"
FILES: dict[int, str] = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6"}


def connected(family: int) -> frozenset[Ends]:
    """Each by its two ends, the other one as the source: so the packets come. None where IPv6 is off.

    10,000 take about 30 ms.
    """
    found = set()
    try:
        lines = Path(f"/proc/thread-self/net/{FILES[family]}").read_text().splitlines()[1:]
    except FileNotFoundError:
        return frozenset()
    for line in lines:
        _, ours, other, state, *_ = line.split()
        if state != LISTENING:
            found.add(Ends(*_end(other), *_end(ours)))
    return frozenset(found)


def _end(text: str) -> tuple[str, int]:
    """An address, in words of this machine's byte order, and a port."""
    words, _, port = text.partition(":")
    packed = bytes.fromhex(words)
    if sys.byteorder == "little":
        packed = b"".join(packed[start : start + 4][::-1] for start in range(0, len(packed), 4))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), int(port, 16)
