"""Sockets that are open longer than we are: the service manager's, by socket activation (man 3 sd_listen_fds), and our
own, which it keeps for our next life where its unit says `FileDescriptorStoreMax=` (man 3 sd_pid_notify_with_fds), or
which the process before us gives (`ambnet.handover`).

Somebody has them while we restart, so a client waits in the kernel's queue where it would be refused. What we were
handed is taken by address; whoever opens a port asks here first.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections.abc import Iterable, MutableMapping

from ambnet.notify import notify

log = logging.getLogger("listen")

FIRST = 3  # the first descriptor after standard input, output and error
ALL = ("::", "0.0.0.0")  # noqa: S104 - how a socket for all addresses is bound

_kept: list[socket.socket] = []


class Inherited:
    """The sockets that nobody has taken yet. `shared` says that another process serves them still."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self.shared = False

    def __len__(self) -> int:
        return len(self._sockets)

    def add(self, sockets: list[socket.socket]) -> None:
        """These are given by a process that serves them still."""
        self._sockets = [*self._sockets, *sockets]
        self.shared = True

    def take(self, kind: int, host: str | None, port: int) -> list[socket.socket]:
        """Those of a kind (`SOCK_STREAM`, `SOCK_DGRAM`) at an IP address, with None at all addresses; often none.

        They are the caller's from now on. There may be several: one a family, or one a process that shares the port.
        """
        places = {(each, port) for each in (ALL if host is None else (host,))}
        taken = [sock for sock in self._sockets if sock.type == kind and _place(sock) in places]
        self._sockets = [sock for sock in self._sockets if sock not in taken]
        return taken

    def leave(self) -> None:
        """Close, and name, those that nothing asked for: clients would wait there for ever."""
        for sock in self._sockets:
            log.warning("we were handed a socket at %s port %d, and nothing here serves that", *_place(sock))
            forget([sock])
            sock.close()
        self._sockets = []


def keep(sockets: list[socket.socket]) -> list[socket.socket]:
    """Have the service manager keep these, all there are at their places, for the next process; returns them."""
    forget(sockets)
    for sock in sockets:
        notify("FDSTORE=1", f"FDNAME={_name(sock)}", descriptors=[sock.fileno()])
    _kept[:] = [*kept(), *sockets]
    return sockets


def kept() -> list[socket.socket]:
    """Those of them that are open now."""
    return [sock for sock in _kept if sock.fileno() >= 0]


def forget(sockets: Iterable[socket.socket]) -> None:
    """Have it keep what is open at their places no longer."""
    for name in {_name(sock) for sock in sockets}:
        notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def _name(sock: socket.socket) -> str:
    """What the manager calls what it keeps: printable, and no colon."""
    host, port = _place(sock)
    return f"{'tcp' if sock.type == socket.SOCK_STREAM else 'udp'} {host.replace(':', '.')} {port}"


def _place(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port


@functools.cache
def inherited() -> Inherited:
    """What this process was handed over, read once."""
    return read(os.environ)


def read(environ: MutableMapping[str, str]) -> Inherited:
    """The sockets that the environment tells of, if they are for this process. The variables go, as our children have
    no part in it; what is no Internet socket is closed.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return Inherited([])
    sockets = []
    for descriptor in range(FIRST, FIRST + int(count)):
        os.set_inheritable(descriptor, False)
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            log.warning("descriptor %d of the service manager is no socket: %s", descriptor, error.strerror)
            os.close(descriptor)
            continue
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            log.warning("descriptor %d of the service manager is no Internet socket", descriptor)
            sock.close()
            continue
        sock.setblocking(False)
        sockets.append(sock)
    return Inherited(sockets)
