"""How the relay's sockets are set up."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final

from ambnet.relay.inherited import inherited, keep

BACKLOG = 4096  # the kernel's own limit (somaxconn) since 5.4: a burst of that many clients waits instead of failing
# Milliseconds that sent bytes may stay unacknowledged, or a reader's window closed, before a connection counts as dead.
# The kernel does not tell a peer that vanished from one that reads nothing for so long: both are ended.
USER_TIMEOUT = 30_000
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3))  # seconds, seconds, times

# The kernel's socket without the enumerations and methods that `socket.socket` puts around it. The relay makes one a
# connection; descriptors alone do for the rest, as reading and writing need no more.
Socket = socket.SocketType

STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
DATAGRAM: Final = int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
# Bytes that wait in a UDP socket for us; short datagrams count for some 800 each, so that 5,000 of them fit.
RECEIVE_BUFFER = 4 * 1024 * 1024
# Python has no names for these: asm-generic/socket.h, linux/in.h, linux/in6.h.
SO_RCVBUFFORCE, IP_PKTINFO, IP_RECVERR, IPV6_RECVERR, IPV6_FREEBIND = 33, 8, 11, 25, 78
IPV6_IS_OFF = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # for the whole kernel, or in this network namespace
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


def open_listeners(host: str | None, port: int, *, early: bool = False) -> list[socket.socket]:
    """Listening sockets on an IP address, or with None on all of both families (IPv4 alone where IPv6 is off); those of
    the service manager where it handed us some.

    `early`: an IPv6 address may be one that the kernel still makes sure of, as that of a bridge to which nobody is
    connected yet. Port 0 takes a free one. Raises OSError.
    """
    if handed := inherited().take(socket.SOCK_STREAM, host, port):
        return keep([_listening_again(sock) for sock in handed])
    return keep(_at(host, lambda family, address: [_listening(family, address, port, early)]))


def open_datagrams(host: str | None, port: int, sharers: int = 1, *, early: bool = False) -> list[socket.socket]:
    """Bound UDP sockets, one for each of so many processes, or as many as a process before us had; addresses are those
    of `open_listeners`, `early` too.

    The kernel gives each of them a part of the clients, by their address and port. Raises OSError.
    """
    if handed := inherited().take(socket.SOCK_DGRAM, host, port):
        # While another process reads them too, neither more nor fewer: each of a group gets its part of the clients.
        return keep(_shared_out(handed, len(handed) if inherited().shared else sharers))
    return keep(_at(host, lambda family, address: _bound(family, address, port, sharers, early)))


def _at(host: str | None, made: Callable[[int, str], list[socket.socket]]) -> list[socket.socket]:
    """What is made for the family and the address: of `host`, or all addresses of as many families as there are."""
    if host is not None:
        return made(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    try:
        return made(socket.AF_INET6, "::")
    except OSError as error:
        if error.errno not in IPV6_IS_OFF:
            raise
        return made(socket.AF_INET, "0.0.0.0")  # noqa: S104 - the contract: on all addresses


def _shared_out(handed: list[socket.socket], sharers: int) -> list[socket.socket]:
    """One socket for each process: of those that we were handed, and as many more beside them as it takes."""
    for sock in handed[sharers:]:  # it would get a part of the clients
        sock.close()
    first, *_ = handed = handed[:sharers]
    host, port = first.getsockname()[:2]
    for sock in handed:
        if host in ("::", "0.0.0.0"):  # noqa: S104 - not bound here
            _tell_address(sock)
        _widen(sock)
    return _bound(first.family, host, port, sharers, beside=handed)


def _bound(
    family: int,
    host: str,
    port: int,
    sharers: int,
    early: bool = False,
    *,
    beside: Iterable[socket.socket] = (),
) -> list[socket.socket]:
    made = list(beside)
    try:
        while len(made) < sharers:
            sock = socket.socket(family, DATAGRAM)
            made.append(sock)
            if made[1:]:
                _share(made[0])  # not before it has the port: whoever had it before us would share with us
                _share(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
                if early:
                    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            if host in ("::", "0.0.0.0"):  # noqa: S104 - not bound here
                _tell_address(sock)
            _widen(sock)
            sock.bind((host, made[0].getsockname()[1] if made[1:] else port))
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _share(sock: Socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _tell_address(sock: Socket) -> None:
    """Have each datagram say which of our addresses it came to. Before the bind: those that wait cannot be asked."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)  # of IPv4 datagrams as well
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def tells_address(sock: socket.socket) -> bool:
    """Whether each datagram says so, in its first control message."""
    if sock.family == socket.AF_INET6:
        return bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO))
    return bool(sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO))


def _widen(sock: Socket) -> None:
    """Give it a large buffer, as large as an administrator allows where we are none."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def hear_unreachable(sock: Socket, family: int) -> None:
    """Have a connected UDP socket told of everything that ICMP says, not only of closed ports (ip(7), IP_RECVERR).

    A host that is gone is known by that when nobody has answered for its address, after about three seconds.
    """
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def _listening_again(sock: socket.socket) -> socket.socket:
    """A socket that listens already, set up as our own are."""
    keep_alive(sock)
    sock.listen(BACKLOG)
    return sock


def _listening(family: int, host: str, port: int, early: bool = False) -> socket.socket:
    sock = socket.socket(family, STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            if early:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sock.bind((host, port))
        keep_alive(sock)  # clients inherit it, those too that come before a relay takes the socket over
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
