"""Tell systemd how we are: the sd_notify protocol (man 3 sd_notify), one datagram a message.

Outside systemd, without NOTIFY_SOCKET, everything here does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence


def notify(*fields: str, descriptors: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> bool:
    """Send fields such as `READY=1`, `STATUS=…`, with open files for `FDSTORE=1`; returns whether systemd was told."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
        try:
            channel.connect(address)
            socket.send_fds(channel, ["\n".join(fields).encode()], list(descriptors))
        except OSError:  # the manager is gone or its queue is full; it will ask again by its watchdog
            return False
    return True


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two WATCHDOG=1 messages: half of what systemd allows, None if it does not watch us."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
