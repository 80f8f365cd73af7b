"""The process that starts: it asks whoever serves for its sockets, and takes over when it could serve itself."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ambcore.errors import ConfigError
from ambcore.text import visible
from ambnet.handover.words import (
    ALL,
    ANSWER,
    BACKLOG,
    HELLO,
    MINE,
    MOST,
    NO,
    OPTION,
    PACKET,
    READY,
    SOCKETS,
    VERSION,
    YOURS,
    is_trusted,
    who,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A process that starts. `listener` is the unix socket where its own heir will come, `holder` leads to the one that
    serves, None where nobody does, and `sockets` are what that one gave.
    """

    listener: socket.socket
    holder: socket.socket | None = None
    sockets: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        """Close what leads to others. Closing twice is fine."""
        self.listener.close()
        if self.holder is not None:
            self.holder.close()


def arrive(path: str) -> Arrival:
    """Ask whoever serves at a path for its sockets, or be the first there. Waits for ANSWER seconds at most.

    Raises ConfigError when the path cannot be used, or that one gives nothing.
    """
    try:
        with _alone(path):
            channel = _called(path)
            if channel is None:
                return Arrival(_first(path))
        return _inherit(channel)
    except TimeoutError as error:
        raise ConfigError(OPTION, f"{path}: whoever serves there does not answer") from error
    except OSError as error:
        raise ConfigError(OPTION, f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Nobody else looks meanwhile who serves here: of two that start at once, one is the first."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _called(path: str) -> socket.socket | None:
    """A connection to whoever serves there, None where nobody does. Raises OSError."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.settimeout(ANSWER)
        channel.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except BaseException:
        channel.close()
        raise
    return channel


def _first(path: str) -> socket.socket:
    """A socket at the path, in place of one that somebody who has died left there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "it is there and is no socket")
        Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        os.fchmod(listener.fileno(), 0o600)  # before it has a name: Linux gives it to the file then
        listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _inherit(channel: socket.socket) -> Arrival:
    """What whoever serves gives. Raises ConfigError, OSError."""
    got: list[socket.socket] = []
    try:
        _receive(channel, got)
    except BaseException:
        for sock in (channel, *got):
            sock.close()
        raise
    for sock in got:
        sock.setblocking(False)
    return Arrival(got[0], channel, got[1:])


def _receive(channel: socket.socket, got: list[socket.socket]) -> None:
    """Fill `got` with what is given. Raises ConfigError, OSError."""
    _, user = who(channel)
    if not is_trusted(user):
        raise ConfigError(OPTION, f"whoever serves there is user {user}, and we are {os.geteuid()}")
    channel.send(HELLO + b"%d" % VERSION)
    word = SOCKETS
    while word == SOCKETS:
        word, descriptors, flags, _ = socket.recv_fds(channel, PACKET, MOST)
        got += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if flags & socket.MSG_CTRUNC:
            raise ConfigError(OPTION, "we were given more sockets than we may have open files; see `ulimit -n`")
    if word != ALL or not got:
        raise ConfigError(OPTION, _refusal(word))


def check_turn(word: bytes) -> None:
    """Raises ConfigError unless it is our turn by this word, the last one of the holder's; empty when that has gone."""
    if word not in {b"", YOURS}:
        raise ConfigError(OPTION, _refusal(word))


def claim(holder: socket.socket) -> None:
    """Say that it is our turn. Raises ConfigError if the holder has taken that back, as we slept."""
    try:
        holder.send(MINE)
    except OSError:  # it has ended, or has said why not
        holder.setblocking(False)
        with contextlib.suppress(OSError):
            while word := holder.recv(PACKET):
                check_turn(word)


def say_ready(holder: socket.socket) -> None:
    """Say that we could serve. One that has gone meanwhile will not hear it, which is no matter."""
    with contextlib.suppress(OSError):
        holder.send(READY)


def take_over(holder: socket.socket) -> None:
    """`say_ready`, wait for our turn however long it takes, and claim it. Raises ConfigError."""
    say_ready(holder)
    holder.settimeout(None)
    try:
        word = holder.recv(PACKET)
    except ConnectionError:
        word = b""
    check_turn(word)
    claim(holder)


def _refusal(word: bytes) -> str:
    """What an unexpected packet means, for people."""
    if word.startswith(NO):
        return f"whoever serves there says no: {visible(word.removeprefix(NO).decode(errors='replace'))}"
    if not word:
        return "whoever served there has just ended; try again"
    return f"whoever serves there speaks otherwise: {visible(word[:40].decode(errors='replace'))}"
