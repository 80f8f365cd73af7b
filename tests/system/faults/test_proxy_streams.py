"""What ends badly between a client and its instance, through a whole dynproxy: half-closes, resets, silence."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Address
from tests.support.relay_peers import in_thread, receive_all, reset, was_reset
from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Stage

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

MIB = 1024 * 1024
LAST = pytest.param("instance", marks=pytest.mark.long)
BOTH = pytest.mark.parametrize("plane", ["kernel", "relay"])
KEEP_ALIVE = 105  # seconds until a peer without bytes on their way is given up, as docs/behavior.md has it
USER_TIMEOUT = 30


class Meeting:
    """One instance whose connections the test accepts by hand, behind a dynproxy that serves it alone."""

    def __init__(self, stage: Stage, proxy: KernelProxy, listener: socket.socket) -> None:
        self.stage, self.proxy, self._listener = stage, proxy, listener

    def talking(self) -> tuple[socket.socket, socket.socket]:
        """A client's end and the instance's, once a byte has gone from one to the other."""
        client = self.stage.hosts.client.connect(self.stage.to)
        client.sendall(b"?")
        server, _ = self._listener.accept()
        server.settimeout(10)
        assert server.recv(1) == b"?"
        return client, server

    def counter(self, name: str) -> int:
        """One of the relay's counters for the service."""
        count: int = self.proxy.service(self.stage.service)["counters"][name]
        return count

    def open_files(self) -> int:
        """How many files the relay's processes have open."""
        workers = self.proxy.status()["plane"]["processes"]
        return sum(len(os.listdir(Path("/proc", str(pid), "fd"))) for pid in workers)  # noqa: PTH208 - it counts


@contextlib.contextmanager
def meeting(stage: Stage, plane: str, *options: str) -> Iterator[Meeting]:
    at: Address = (stage.hosts.instance(41), 4000 + stage.port % 1000)
    stage.registry.put(stage.service, "one", *at)
    checks = ("--check-interval", "0")  # they would be accepted here as well
    with stage.hosts.server.listen(at, 4096) as listener, stage.proxy("--plane", plane, *checks, *options) as proxy:
        proxy.wait_serving(stage.service, "one", plane=plane)
        yield Meeting(stage, proxy, listener)


@BOTH
@pytest.mark.parametrize("first", ["client", LAST])
def test_C15_half_close_then_10_MB(stage: Stage, figure: Figure, plane: str, first: str) -> None:
    """After one side has said all it has to say, the other's 10 MB still arrive, byte for byte."""
    with meeting(stage, plane) as there:
        ends = there.talking()
        speaker, answerer = ends if first == "client" else ends[::-1]
        with speaker, answerer:
            speaker.sendall(b"that is all")
            speaker.shutdown(socket.SHUT_WR)
            assert receive_all(answerer) == b"that is all"
            answer = os.urandom(10 * MIB)

            def reply() -> None:
                answerer.sendall(answer)
                answerer.shutdown(socket.SHUT_WR)

            answering = in_thread(reply)
            received = receive_all(speaker)
            answering.join()
            assert received == answer
            figure(f"{plane}: {len(received) / MIB:.0f} MiB from the other end after the half-close, byte for byte")


@BOTH
@pytest.mark.parametrize("resetter", ["client", LAST])
def test_C16_rst_passes(stage: Stage, figure: Figure, plane: str, resetter: str) -> None:
    with meeting(stage, plane) as there:
        client, server = there.talking()
        one, other = (client, server) if resetter == "client" else (server, client)
        began = time.monotonic()
        reset(one)
        assert was_reset(other, timeout=5.0)
        took = time.monotonic() - began
        other.close()
        assert took < 1
        figure(f"{plane}: a reset by the {resetter} arrived after {took * 1000:.0f} ms")
        if plane == "relay":
            eventually(lambda: there.proxy.instance(stage.service, "one")["connections"] == 0)


def end_badly(there: Meeting, kind: int) -> list[socket.socket]:
    """One connection that ends in one of three bad ways; what is to be kept open for that, and closed later."""
    client, server = there.talking()
    if kind == 0:  # FIN, then RST
        client.shutdown(socket.SHUT_WR)
        reset(client)
        return [server]
    if kind == 1:  # RST
        reset(client)
        return [server]
    client.shutdown(socket.SHUT_WR)  # FIN, then silence for ever
    return [client, server]


def end_many_badly(there: Meeting, total: int, at_once: int, patience: float) -> int:
    """So many connections that end badly, then the files left open when all of them should be over."""
    before = there.open_files()
    for first in range(0, total, at_once):
        kept = [sock for number in range(at_once) for sock in end_badly(there, (first + number) % 3)]
        eventually(lambda: there.open_files() <= before, patience, "files are given back")
        for sock in kept:
            sock.close()
    return there.open_files() - before


def test_C17_fin_then_rst_of_a_thousand(stage: Stage, figure: Figure) -> None:
    with meeting(stage, "relay", "--half-open-timeout", "0.5") as there:
        left = end_many_badly(there, 900, 300, 20)
        eventually(lambda: there.counter("half_open_closed") >= 300, 5)
        assert left <= 0
        figure(f"900 connections that ended badly: {max(left, 0)} files left open after half a second's timeout")


@pytest.mark.long
def test_C17_fin_then_rst_of_10000(stage: Stage, figure: Figure) -> None:
    """With the default timeout of 30 s, 3,333 of a kind. A third of them is silent at once, with two files each."""
    with meeting(stage, "relay") as there:
        before = there.open_files()
        kept = [sock for number in range(10_000) for sock in end_badly(there, number % 3)]
        last = time.monotonic()
        most = there.open_files() - before
        eventually(lambda: there.open_files() <= before, 45, "files are given back")
        took = time.monotonic() - last
        for sock in kept:
            sock.close()
        assert there.counter("half_open_closed") >= 3000
        assert took < 30 * 1.1 + 5
        figure(f"10,000 connections that ended badly, up to {most} files: 0 left open {took:.1f} s after the last")


@pytest.mark.long
def test_C20_vanished_peer_with_and_without_data_under_way(stage: Stage, figure: Figure) -> None:
    """Everything between proxy and instance is dropped: 30 s with bytes on their way, 105 s in silence."""
    with meeting(stage, "relay") as there:
        busy, quiet = there.talking(), there.talking()
        stage.hosts.server.nft("add table ip hole\nadd chain ip hole in { type filter hook input priority 0; }\n")
        stage.hosts.server.nft("add chain ip hole out { type filter hook output priority 0; policy drop; }\n")
        stage.hosts.server.nft("add rule ip hole in tcp dport 4000-4999 drop\n")
        dropped = time.monotonic()
        busy[0].sendall(b"is anybody there?")
        assert was_reset(busy[0], timeout=60)
        with_data = time.monotonic() - dropped
        assert select.select([quiet[0]], [], [], 0)[0] == [], "the quiet one has more time"
        assert was_reset(quiet[0], timeout=150)
        without = time.monotonic() - dropped
        for sock in (*busy, *quiet):
            sock.close()
        figure(f"given up after {with_data:.1f} s with data under way, after {without:.1f} s without")
        assert with_data < USER_TIMEOUT + 8
        assert without < KEEP_ALIVE + 8
