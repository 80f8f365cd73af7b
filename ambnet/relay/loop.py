"""A level-triggered epoll loop: descriptors with handlers, a few timers, a way in for other threads and signals."""

from __future__ import annotations

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
EXCLUSIVE: Final = select.EPOLLEXCLUSIVE
HANGS_UP: Final = select.EPOLLRDHUP
OVER: Final = select.EPOLLHUP  # both FINs have passed, or a reset

EVENTS_AT_ONCE = 512  # bounds how long timers wait behind traffic


class Unfinished(Protocol):
    """Somebody whose handler has left a part of its work."""

    def finish(self) -> None:
        """Do that part; it may have become pointless meanwhile."""


class Timer:
    """One call in the future; `cancel` makes it a call that never comes."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Cancelling twice, or after the call, is fine."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Runs handlers in one thread. `now` is the monotonic time at which the current batch of events was fetched.

    Timers are for the few things that a relay does regularly; connections have none of their own. A handler is called
    with the events that epoll reports; EPOLLERR and EPOLLHUP come whether asked for or not. What a handler raises ends
    the loop: it is a defect, and whoever runs the process must hear of it.
    """

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._timers: list[Timer] = []
        self._discarded: list[int] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._running = False
        self._unfinished: list[Unfinished] = []
        self.put_off = self._unfinished.append  # have somebody finish after this batch of events
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.add(self._bell, IN, self._answer)

    def add(self, fd: int, events: int, handler: Callable[[int], object]) -> None:
        """Watch a descriptor; `events` may be 0, for errors and hang-ups only."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Watch for other events."""
        self._epoll.modify(fd, events)

    def hand_over(self, fd: int, events: int, handler: Callable[[int], object]) -> None:
        """Watch for other events and give them to another handler."""
        self._epoll.modify(fd, events)
        self._handlers[fd] = handler

    def remove(self, fd: int) -> None:
        """Watch no more; the descriptor stays open."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def discard(self, fd: int) -> None:
        """Forget a descriptor at once, watched or not, and close it after this batch of events.

        Not before: its number must not be given to another one while the batch may still hold an event for it.
        """
        self._handlers.pop(fd, None)
        self._discarded.append(fd)

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        """Call once, `delay` seconds from now."""
        timer = Timer(time.monotonic() + delay, call)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        """Call soon in the loop's thread; the one method for other threads and signal handlers."""
        self._calls.append(call)
        os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        """Make `run` return after the current batch."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        poll, handlers, clock = self._epoll.poll, self._handlers, time.monotonic
        self._running = True
        while self._running:
            events = poll(self._patience(), EVENTS_AT_ONCE)
            self.now = clock()
            for fd, event in events:
                handler = handlers.get(fd)
                if handler is not None:
                    handler(event)
            if self._unfinished:
                for unfinished in self._unfinished:
                    unfinished.finish()
                self._unfinished.clear()
            if self._timers and self._timers[0].when <= self.now:
                self._run_timers()
            if self._discarded:  # last: what a timer ends must not stay open until the next event
                self._close_discarded()

    def close(self) -> None:
        """Close what is the loop's own. Closing twice is fine."""
        self._close_discarded()
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._bell)

    def _patience(self) -> float:
        return max(0.0, self._timers[0].when - time.monotonic()) if self._timers else -1

    def _close_discarded(self) -> None:
        discarded, self._discarded = self._discarded, []
        for fd in discarded:
            os.close(fd)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0].when <= self.now:
            timer = heapq.heappop(self._timers)
            if timer.call is not None:
                timer.call()

    def _answer(self, _events: int) -> None:
        os.eventfd_read(self._bell)
        for _ in range(len(self._calls)):
            self._calls.popleft()()
