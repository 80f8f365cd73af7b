"""Bytes, ends and resets between a client and an instance, through a real worker process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import socket
import time
from functools import partial

import pytest

from ambnet.relay.limits import Limits
from ambnet.relay.loop import IN, Loop
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.sockets import open_listeners
from tests.support.relay_peers import (
    Instance,
    in_thread,
    receive_all,
    receive_digest,
    reset,
    talking,
    was_reset,
)
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.waiting import eventually

MIB = 1024 * 1024


def fill(sock: socket.socket) -> None:
    """Send until the buffers on the way are full, as far as can be seen from here."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(256 * 1024))


@pytest.fixture
def ends(relay: RelayWorker, instance: Instance) -> tuple[socket.socket, socket.socket]:
    relay.apply(endpoint("one", instance))
    return talking(relay, instance)


def test_bytes_pass_both_ways_and_are_counted(relay: RelayWorker, ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    client.sendall(b"PING")
    assert server.recv(100) == b"PING"
    server.sendall(b"+PONG!")
    assert client.recv(100) == b"+PONG!"
    eventually(lambda: (relay.instance("one").bytes_in, relay.instance("one").bytes_out) == (5, 6))
    assert relay.instance("one").connections == relay.connections == 1
    client.close()
    server.close()
    eventually(lambda: relay.connections == 0)
    assert relay.instance("one").connections_total == relay.counter("connected") == 1


@pytest.mark.parametrize("first", ["client", "instance"])
def test_C15_half_close(relay: RelayWorker, ends: tuple[socket.socket, socket.socket], first: str) -> None:
    """After one side has said all it has to say, the other's 10 MB still arrive, byte for byte."""
    speaker, answerer = ends if first == "client" else ends[::-1]
    question, answer = os.urandom(10 * MIB), os.urandom(10 * MIB)

    def ask() -> None:
        speaker.sendall(question)
        speaker.shutdown(socket.SHUT_WR)

    asking = in_thread(ask)
    assert receive_all(answerer) == question
    asking.join()

    def reply() -> None:
        answerer.sendall(answer)
        answerer.close()

    answering = in_thread(reply)
    assert receive_all(speaker) == answer
    answering.join()
    speaker.close()
    eventually(lambda: relay.connections == 0)
    assert relay.counter("reset") == 0


def test_both_directions_at_once_are_byte_exact_at_any_pace(
    relay: RelayWorker, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Copying and splicing take turns: bulk, small pieces, and a reader that stops now and then."""
    blocks = [os.urandom(size) for size in (3 * MIB, 1000, 200_000, 17, 8 * MIB, 1, 65536, 65537) for _ in range(3)]
    expected = hashlib.sha256(b"".join(blocks)).hexdigest()
    size = sum(map(len, blocks))

    def speak(sock: socket.socket) -> None:
        for block in blocks:
            sock.sendall(block)

    speakers = [in_thread(partial(speak, end)) for end in ends]
    server_digest: list[str] = []
    listener = in_thread(lambda: server_digest.append(receive_digest(ends[1], size)))
    listener.join(0.5)  # the client reads nothing for a while: its direction backs up to the instance
    assert receive_digest(ends[0], size) == expected
    for thread in (*speakers, listener):
        thread.join()
    assert server_digest == [expected]
    eventually(lambda: relay.instance("one").bytes_out == relay.instance("one").bytes_in - 1 == size)


def test_what_came_before_the_last_fin_waits_for_a_slow_reader_without_work(
    relay: RelayWorker, ends: tuple[socket.socket, socket.socket]
) -> None:
    """When both FINs have passed, epoll reports a hang-up again and again until the rest is read: it must not watch."""
    client, server = ends
    watched = relay.watched_files()
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    block = os.urandom(64 * 1024)
    sent = 0
    while select.select([], [server], [], 1.0)[1]:  # until every buffer on the way is full
        sent += server.send(block, socket.MSG_DONTWAIT)
    server.close()
    got = []

    def unwatched() -> bool:
        """The client reads until the instance's FIN has come to the relay and the bytes before it have not left it."""
        if relay.watched_files() == watched - 1:
            return True
        got.append(client.recv(512 * 1024))
        return False

    eventually(unwatched)
    got.append(receive_all(client))
    assert b"".join(got) == (block * (sent // len(block) + 1))[:sent]


@pytest.mark.parametrize("resetter", ["client", "instance"])
def test_C16_rst(relay: RelayWorker, ends: tuple[socket.socket, socket.socket], resetter: str) -> None:
    """A reset of one side is a reset of the other within a second, and the session is freed."""
    one, other = ends if resetter == "client" else ends[::-1]
    reset(one)
    assert was_reset(other, timeout=1.0)
    eventually(lambda: relay.connections == 0)


def test_an_answer_given_before_the_question_has_ended_arrives(
    relay: RelayWorker, ends: tuple[socket.socket, socket.socket]
) -> None:
    """A server that refuses an upload answers and closes; what it has not read makes that a reset.

    On a direct connection the client reads the answer before it learns of the reset, whatever it sends meanwhile.
    """
    client, server = ends
    client.sendall(b"part one")
    assert select.select([server], [], [], 5)[0], "it has something that it will not read"
    relay.process.send_signal(signal.SIGSTOP)
    client.sendall(b"part two")  # the relay learns of this first, and has nobody to send it to
    server.sendall(b"too large")
    server.close()
    relay.process.send_signal(signal.SIGCONT)
    assert client.recv(100) == b"too large"
    assert was_reset(client)


def test_rst_while_nothing_can_be_written_is_noticed(
    relay: RelayWorker, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Back-pressure stops reading from the instance, not listening for its reset."""
    client, server = ends
    server.setblocking(False)
    fill(server)
    eventually(lambda: relay.connections == 1)
    reset(server)
    assert was_reset(client, timeout=2.0)


def test_C17_fin_then_rst(instance: Instance) -> None:
    """Of 10,000 connections that ended badly (FIN then RST, RST, FIN then silence) no descriptor stays open."""
    with RelayWorker(half_open_timeout=0.3) as relay:
        relay.apply(endpoint("one", instance))
        before = relay.open_files()
        for _ in range(20):
            silent = []
            for number in range(500):
                client, server = talking(relay, instance)
                if number % 3 == 0:
                    client.shutdown(socket.SHUT_WR)
                    reset(client)
                    server.close()
                elif number % 3 == 1:
                    reset(client)
                    silent.append(server)
                else:
                    client.shutdown(socket.SHUT_WR)
                    silent += [client, server]
            eventually(lambda: relay.open_files() <= before, 20.0, "descriptors given back")
            for sock in silent:
                sock.close()
        eventually(lambda: relay.counter("half_open_closed") > 3000, 5.0, "the silent ones are counted")


def test_a_half_open_connection_lives_while_bytes_come(instance: Instance) -> None:
    """The timeout counts from the last byte of the direction that goes on, not from the FIN."""
    with RelayWorker(half_open_timeout=0.5) as relay:
        relay.apply(endpoint("one", instance))
        client, server = talking(relay, instance)
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        began = time.monotonic()
        while time.monotonic() - began < 1.5:  # three times the timeout
            assert select.select([client], [], [], 0.2)[0] == []
            server.sendall(b".")
            assert client.recv(1) == b"."
        assert was_reset(client, timeout=2.0)


def test_an_idle_connection_is_reset_when_its_time_is_up(instance: Instance) -> None:
    with RelayWorker(idle_timeout=0.5) as relay:
        relay.apply(endpoint("one", instance))
        client, server = talking(relay, instance)
        assert was_reset(client, timeout=2.0)
        assert was_reset(server, timeout=2.0)
        eventually(lambda: relay.counter("idle_closed") == 1)


def test_C15_a_peer_that_takes_more_in_the_batch_in_which_the_other_end_hangs_up_gets_it_all(
    instance: Instance,
) -> None:
    """The hang-up was fetched while nothing was read, and is handled when reading has just begun again."""
    loop = Loop()
    relay = Relay(loop, Limits(), files=1000, on_broken=lambda *_: None)
    [listening] = open_listeners("127.0.0.1", 0)
    route = Route("hangs-up")
    relay.apply(route, [endpoint("one", instance)])

    def turn(seconds: float) -> None:
        loop.call_later(seconds, loop.stop)
        loop.run()

    with socket.create_connection(listening.getsockname(), 5) as client:
        relay.listen(listening, route)
        turn(0.2)
        server = instance.accept()
        client.shutdown(socket.SHUT_WR)
        turn(0.05)
        [session] = relay.sessions
        sent = 0
        while session.server.interest & IN:  # until the client's end is full and the relay reads no more
            sent += server.send(bytes(32 * 1024))
            turn(0.01)
        sent += server.send(bytes(1024))
        client.setblocking(False)
        got = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                got += len(client.recv(MIB))
        server.close()
        client.settimeout(10)
        pieces: list[bytes] = []
        reading = in_thread(lambda: pieces.append(receive_all(client)))
        for _ in range(200):
            turn(0.02)
            if not reading.is_alive():
                break
    relay.close()
    loop.close()
    assert got + sum(map(len, pieces)) == sent


@pytest.mark.parametrize(("limits", "goes_on"), [(Limits(), True), (Limits(idle_timeout=3600.0), False)])
def test_pain_25_a_connection_may_be_silent_for_two_hours(limits: Limits, goes_on: bool, instance: Instance) -> None:
    """Time is passed to what looks after connections, as a test cannot wait for it; the sockets are real."""
    loop = Loop()
    relay = Relay(loop, limits, files=1000, on_broken=lambda *_: None)
    [listening] = open_listeners("127.0.0.1", 0)
    route = Route("silent")
    relay.apply(route, [endpoint("one", instance)])
    with socket.create_connection(listening.getsockname(), 5):
        relay.listen(listening, route)
        loop.call_later(0.5, loop.stop)
        loop.run()
        [session] = relay.sessions
        session.sweep(loop.now)
        for side in (session.client, session.server):
            assert side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        session.sweep(loop.now + 7200)
        assert session.closed is not goes_on
    relay.close()
    loop.close()


def test_C18_slow_readers_cost_bounded_memory(relay: RelayWorker, instance: Instance) -> None:
    """200 clients that read nothing, 200 instances that send all they can: at most 256 KiB each, others are served."""
    relay.apply(endpoint("one", instance))
    before = relay.resident_kib()
    slow = [talking(relay, instance) for _ in range(200)]
    for _, server in slow:
        server.setblocking(False)
    for _ in range(4):
        for _, server in slow:
            fill(server)
    client, server = talking(relay, instance)
    client.sendall(b"still there?")
    assert server.recv(100) == b"still there?"
    assert relay.resident_kib() - before < 200 * 256
    for ends in slow:
        for sock in ends:
            reset(sock)
