"""The words of a hand-over, and who says them."""

from __future__ import annotations

import os
import socket
import struct

OPTION = "--hand-over"
VERSION = 1
HELLO = b"ambassador hand-over "
SOCKETS, ALL, READY, YOURS, MINE, NO = b"sockets", b"that is all", b"ready", b"yours", b"mine", b"no, "

PACKET = 1024  # bytes of the longest packet
MOST = 64  # sockets in one; the kernel's limit is 253 (SCM_MAX_FD)
ANSWER = 10.0  # seconds in which whoever serves has to give its sockets
CLAIM = 10.0  # seconds in which an heir has to take what is its own
BACKLOG = 8
CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group (unix(7), SO_PEERCRED)


def who(channel: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end; of a listening one those that made it listen."""
    pid, user, _ = CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return pid, user


def is_trusted(user: int) -> bool:
    """Whether that is root or us: nobody else may have our sockets, or give us theirs."""
    return user in {0, os.geteuid()}
