"""Pipes for splice(2): bytes pass from socket to socket inside the kernel, without a copy in our memory."""

from __future__ import annotations

import fcntl
import os
from typing import Final

SIZE: Final = 1024 * 1024  # /proc/sys/fs/pipe-max-size as shipped: the most an unprivileged process may ask for
SMALLEST = 256 * 1024  # below this a pipe carries no more at once than some reads of the common buffer
MOST = 64  # in use at once: 64 MiB of kernel memory, the default of pipe-user-pages-soft; beyond it we copy
SPARE = 8  # kept for the next bulk transfer

MOVE: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A kernel buffer between two sockets; `held` bytes are in it."""

    __slots__ = ("held", "sink", "source")

    def __init__(self) -> None:
        self.source, self.sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0

    def widen(self) -> bool:
        """Ask the kernel for room; false if it does not give enough to be of use."""
        try:
            return fcntl.fcntl(self.sink, fcntl.F_SETPIPE_SZ, SIZE) >= SMALLEST
        except OSError:  # EPERM: the user's quota of pipe memory is used up
            return False

    def close(self) -> None:
        """Close both ends; what is held is lost."""
        os.close(self.source)
        os.close(self.sink)


class PipePool:
    """Lends pipes, a bounded number at a time."""

    __slots__ = ("_spare", "lent")

    def __init__(self) -> None:
        self.lent = 0
        self._spare: list[Pipe] = []

    def take(self) -> Pipe | None:
        """An empty pipe, or None when there is none to be had now."""
        if self.lent >= MOST:
            return None
        pipe = self._spare.pop() if self._spare else self._make()
        self.lent += pipe is not None
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Return a pipe; one that still holds bytes of its connection is not lent again."""
        self.lent -= 1
        if pipe.held or len(self._spare) >= SPARE:
            pipe.close()
        else:
            self._spare.append(pipe)

    def close(self) -> None:
        """Close the spare ones."""
        while self._spare:
            self._spare.pop().close()

    @staticmethod
    def _make() -> Pipe | None:
        try:
            pipe = Pipe()
        except OSError:  # out of files: copying needs none
            return None
        if pipe.widen():
            return pipe
        pipe.close()
        return None
