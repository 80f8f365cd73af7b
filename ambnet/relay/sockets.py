"""How the relay's sockets are set up."""

from __future__ import annotations

import socket
import struct
from typing import Final

BACKLOG = 4096  # the kernel's own limit (somaxconn) since 5.4: a burst of that many clients waits instead of failing
# Milliseconds that sent bytes may stay unacknowledged, or a reader's window closed, before a connection counts as dead.
# The kernel does not tell a peer that vanished from one that reads nothing for so long: both are ended.
USER_TIMEOUT = 30_000
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3))  # seconds, seconds, times

# The kernel's socket without the enumerations and methods that `socket.socket` puts around it. The relay makes one a
# connection; descriptors alone do for the rest, as reading and writing need no more.
Socket = socket.SocketType

STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: close sends RST


def reset_on_close(sock: Socket) -> None:
    """Make the coming close of this socket send RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def keep_alive(sock: Socket) -> None:
    """Have the kernel notice a peer that vanished: within 30 s when bytes are on their way, else within 60 + 3 * 15."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)


def no_delay(sock: Socket) -> None:
    """Send small pieces at once: whoever wrote them decided when."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def open_listeners(host: str | None, port: int) -> list[socket.socket]:
    """Listening sockets on an IP address, or with None on all of both families (IPv4 alone where IPv6 is off).

    Port 0 takes a free one. Raises OSError.
    """
    if host is not None:
        return [_listening(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)]
    try:
        return [_listening(socket.AF_INET6, "::", port)]
    except OSError:
        return [_listening(socket.AF_INET, "0.0.0.0", port)]  # noqa: S104 - the contract: on all addresses


def _listening(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
