"""What the kernel knows of sockets."""

from __future__ import annotations

from pathlib import Path

ESTABLISHED = "01"  # include/net/tcp_states.h


def established(port: int) -> int:
    """How many IPv4 connections are established at this local port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[1].rpartition(":")[2], 16) == port and row[3] == ESTABLISHED for row in rows)
