"""What accept(2) may say, and that none of it goes unnoticed. The kernel seldom says these things, so a fake says them
once, around a real socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ambnet.relay.limits import Limits, connection_cap
from ambnet.relay.listener import PASSING, SHORTAGE, Listener
from ambnet.relay.loop import Loop
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from tests.support.relay_peers import Greeter, ask, connect
from tests.support.relay_worker import endpoint


class FailingAccept:
    """The kernel's accept, after it has failed as often as there are `errors`."""

    def __init__(self, sock: socket.socket, errors: list[int]) -> None:
        self._sock = sock.dup()
        self.errors = errors

    def __call__(self) -> tuple[int, Any]:
        if self.errors:
            error = self.errors.pop(0)
            raise OSError(error, os.strerror(error))
        client, address = self._sock.accept()
        return client.detach(), address

    def close(self) -> None:
        self._sock.close()


class Threaded:
    """A relay in a thread, whose accept fails as told."""

    def __init__(self, errors: list[int], greeter: Greeter) -> None:
        self.broken: list[int | None] = []
        self._loop = Loop()
        self._relay = Relay(self._loop, Limits(), 1000, self._on_broken)
        sock = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = sock.getsockname()
        self.accept = FailingAccept(sock, errors)
        route = Route("test")
        self._relay.apply(route, [endpoint("one", greeter)])
        self._relay.listen(sock, route, self.accept)
        self._thread = threading.Thread(target=self._loop.run)
        self._thread.start()

    def _on_broken(self, _listener: Listener, error: OSError) -> None:
        self.broken.append(error.errno)
        self._loop.stop()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._relay.close()
        self._loop.close()
        self.accept.close()

    def join(self) -> bool:
        self._thread.join(5)
        return not self._thread.is_alive()


@contextlib.contextmanager
def threaded(*errors: int) -> Iterator[Threaded]:
    with Greeter("alive") as greeter:
        relay = Threaded(list(errors), greeter)
        try:
            yield relay
        finally:
            relay.close()


@pytest.mark.parametrize("number", sorted(PASSING), ids=errno.errorcode.get)
def test_C13_accept_errno_of_one_client_costs_only_that_client(number: int) -> None:
    with threaded(number) as relay:
        assert ask(relay.address) == "alive"
        assert relay.accept.errors == []


@pytest.mark.parametrize("number", sorted(SHORTAGE), ids=errno.errorcode.get)
def test_C13_accept_errno_of_shortage_pauses_the_listener(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Three times nothing to accept with: clients wait 0.3 s and are served; the log says it once."""
    with threaded(number, number, number) as relay:
        assert ask(relay.address) == "alive"
        assert relay.accept.errors == []
        assert [record.message for record in caplog.records].count(
            f"accept: {os.strerror(number)}; pausing 0.1 s at a time"
        ) == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSOCK, errno.EFAULT], ids=errno.errorcode.get)
def test_C13_accept_errno_of_any_other_kind_is_told_to_the_owner(number: int, caplog: pytest.LogCaptureFixture) -> None:
    with threaded(number) as relay, contextlib.suppress(OSError), connect(relay.address):
        assert relay.join()
        assert relay.broken == [number]
        assert any("this listener is broken" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("asked", "files", "cap"),
    [(None, 20000, 9900), (None, 1024, 412), (None, 256, 96), (100, 20000, 100), (10**6, 1024, 412), (None, 2, 1)],
)
def test_the_cap_leaves_two_files_for_each_connection(asked: int | None, files: int, cap: int) -> None:
    assert connection_cap(asked, files) == cap
