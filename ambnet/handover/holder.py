"""The process that serves: it gives its sockets to whoever comes, and serves on until that one has taken over."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ambnet.handover.words import ALL, ANSWER, CLAIM, HELLO, MOST, NO, PACKET, SOCKETS, VERSION, YOURS, is_trusted, who

log = logging.getLogger("hand-over")


class Watch(Protocol):
    """As much of an event loop as a Holder needs; asyncio's will do."""

    def add_reader(self, fd: int, ready: Callable[[], object], /) -> object:
        """Call `ready` whenever there is something to read."""

    def remove_reader(self, fd: int, /) -> object:
        """Do so no more."""

    def call_later(self, delay: float, call: Callable[[], object], /) -> Any:
        """Call once, `delay` seconds from now, unless the result's `cancel` is called before."""


class Step(Enum):
    """How far an heir has come."""

    CAME = "it has connected"
    PREPARES = "it has our sockets"
    WAITS = "it is ready, we are about to write no more"
    MAY = "it may take over"


@dataclass
class _Heir:
    channel: socket.socket
    pid: int
    user: int
    step: Step = Step.CAME
    timer: Any = None

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return f"process {self.pid}" if self.pid else "a process of another container"


class Holder:
    """The process that serves, at the unix socket `listener`.

    `sockets()` are what an heir gets. `pause(then)` ends all writing in the heir's favour and calls `then`, `resume()`
    takes that back, and `over()` is told when the heir serves: accept nobody any more, finish, and end. `claim` are the
    seconds in which an heir has to take what is its own.
    """

    def __init__(  # noqa: PLR0917 - what it asks for, in the order in which it does
        self,
        loop: Watch,
        listener: socket.socket,
        sockets: Callable[[], Sequence[socket.socket]],
        pause: Callable[[Callable[[], None]], None],
        resume: Callable[[], None],
        over: Callable[[], None],
        *,
        claim: float = CLAIM,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._sockets = sockets
        self._pause, self._resume, self._over = pause, resume, over
        self._claim = claim
        self._visitors: dict[int, _Heir] = {}  # by descriptor
        self._heir: _Heir | None = None  # the one of them that has our sockets
        listener.setblocking(False)
        loop.add_reader(listener.fileno(), self._on_call)

    @property
    def has_heir(self) -> bool:
        """Whether somebody has our sockets and is about to take over."""
        return self._heir is not None

    def yield_now(self) -> bool:
        """Tell an heir, ready or not, that it is its turn; whether there is one. We may write nothing any more then."""
        if self._heir is None:
            return False
        _say(self._heir.channel, YOURS)
        return True

    def close(self) -> None:
        """Give nothing to anybody any more. Closing twice is fine."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for visitor in tuple(self._visitors.values()):
            self._part(visitor)

    def _on_call(self) -> None:
        """Somebody has come."""
        try:
            channel, _ = self._listener.accept()
        except OSError:  # it has left again
            return
        channel.setblocking(False)
        visitor = _Heir(channel, *who(channel))
        visitor.timer = self._loop.call_later(ANSWER, lambda: self._part(visitor))
        self._visitors[channel.fileno()] = visitor
        self._loop.add_reader(channel.fileno(), lambda: self._on_word(visitor))

    def _on_word(self, heir: _Heir) -> None:
        """Somebody has said something, or has gone."""
        try:
            word = heir.channel.recv(PACKET)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        self._obey(heir, word)

    def _obey(self, heir: _Heir, word: bytes) -> None:
        match heir.step, word:
            case _, b"":
                self._lost(heir)
            case Step.CAME, hello if hello.startswith(HELLO):
                if why := self._objection(heir, hello.removeprefix(HELLO)):
                    log.warning("%s, which wants our sockets, is sent away: %s", heir.name, why)
                    _say(heir.channel, NO + why.encode())
                    self._part(heir)
                else:
                    self._give(heir)
            case Step.PREPARES, b"ready":
                heir.step = Step.WAITS
                self._pause(lambda: self._paused(heir))
            case Step.MAY, b"mine":
                self._claimed()
            case _:
                _say(heir.channel, NO + b"that is not what I expected")
                self._lost(heir)

    def _objection(self, heir: _Heir, version: bytes) -> str:
        """Why somebody gets nothing; empty if there is no reason."""
        if not is_trusted(heir.user):
            return f"your user is {heir.user}, mine is {os.geteuid()}"
        if version != b"%d" % VERSION:
            return f"I speak version {VERSION} of this, and you another"
        return "another process is taking over already" if self._heir is not None else ""

    def _give(self, heir: _Heir) -> None:
        """Let it have everything."""
        self._heir = heir
        given = [self._listener, *self._sockets()]
        try:
            for start in range(0, len(given), MOST):
                some = [sock.fileno() for sock in given[start : start + MOST]]
                socket.send_fds(heir.channel, [SOCKETS], some)
            heir.channel.send(ALL)
        except OSError:
            self._lost(heir)
            return
        heir.step = Step.PREPARES
        heir.timer.cancel()
        log.info("%s has our %d sockets; serving until it is ready", heir.name, len(given) - 1)

    def _paused(self, heir: _Heir) -> None:
        """All writing has ended: the heir may."""
        if heir is not self._heir:
            self._resume()
            return
        heir.step = Step.MAY
        heir.timer = self._loop.call_later(self._claim, lambda: self._take_back(heir))
        _say(heir.channel, YOURS)

    def _take_back(self, heir: _Heir) -> None:
        """It does not claim what is its own. One that claims it at this very moment is believed."""
        if heir is not self._heir:
            return
        _say(heir.channel, NO + b"that took you too long")
        heir.channel.shutdown(socket.SHUT_RD)  # from here on its claim fails; what came before can still be read
        self._on_word(heir)

    def _claimed(self) -> None:
        log.info("the other process serves now")
        self.close()
        self._over()

    def _lost(self, heir: _Heir) -> None:
        """It will not take over."""
        if heir.step is not Step.CAME:
            log.warning("%s has not taken over: %s when it left; serving on", heir.name, heir.step.value)
        self._part(heir)
        if heir.step is Step.MAY:
            self._resume()

    def _part(self, heir: _Heir) -> None:
        """End the connection."""
        if heir is self._heir:
            self._heir = None
        heir.timer.cancel()
        if self._visitors.pop(heir.channel.fileno(), None) is not None:
            self._loop.remove_reader(heir.channel.fileno())
            heir.channel.close()


def _say(channel: socket.socket, word: bytes) -> None:
    """Send a packet; an end that hears nothing any more tells so itself."""
    with contextlib.suppress(OSError):
        channel.send(word[:PACKET])
