"""What datagrams may cost: how many clients are known, for how long, and what TCP leaves of the open files."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ambnet.relay.limits import Limits
from ambnet.relay.loop import Loop
from ambnet.relay.protocol import Close
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.sockets import open_datagrams
from ambnet.relay.upstream import Endpoint
from tests.support.relay_peers import Instance, connect
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.udp_peers import LARGEST, Answerer, UdpInstance, ask, clients, udp_client, udp_socket
from tests.support.waiting import eventually


@pytest.fixture
def one() -> Iterator[Answerer]:
    with Answerer("one") as made:
        yield made


# --- silence --------------------------------------------------------------------------------------------------------


def test_a_silent_client_is_forgotten_and_costs_no_file(one: Answerer) -> None:
    with RelayWorker(datagrams=True, route={"udp_idle": 0.3}) as relay:
        relay.apply(endpoint("one", one.address))
        before = relay.open_files()
        with clients(relay.address, 5) as many:
            assert {ask(client) for client in many} == {"one"}
            eventually(lambda: relay.counter("udp_expired") == 5)
            assert relay.instance("one").connections == 0
            assert relay.open_files() == before
            assert ask(many[0]) == "one"


@pytest.mark.parametrize("talker", ["client", "instance"])
def test_either_side_keeps_a_session_alive(talker: str) -> None:
    idle = 1.0
    with (
        RelayWorker(datagrams=True, route={"udp_idle": idle}) as relay,
        UdpInstance() as server,
        udp_client(relay.address) as client,
    ):
        relay.apply(endpoint("one", server.address))
        client.send(b"first")
        _, session = server.receive()
        until = time.monotonic() + 2 * idle
        while time.monotonic() < until:
            if talker == "client":
                client.send(b"more")
                assert server.receive() == (b"more", session)
            else:
                server.sock.sendto(b"more", session)
                assert client.recv(100) == b"more"
            time.sleep(idle / 20)
        assert relay.counter("udp_expired") == 0
        eventually(lambda: relay.counter("udp_expired") == 1)


# --- many clients ---------------------------------------------------------------------------------------------------


def test_one_client_too_many_and_the_longest_silent_is_forgotten(one: Answerer) -> None:
    with RelayWorker(datagrams=True, udp_sessions=3) as relay:
        relay.apply(endpoint("one", one.address))
        with clients(relay.address, 3) as known, udp_client(relay.address) as another:
            for client in (*known, *reversed(known)):
                assert ask(client) == "one"
            assert ask(another) == "one"
            eventually(lambda: relay.counter("udp_evicted") == 1)
            for client in known[:2]:
                assert ask(client) == "one"
            eventually(lambda: relay.instance("one").connections == 3)
            assert relay.counter("udp_sessions") == 4, "the last one of the first three was forgotten, no other"


def test_a_flood_of_newcomers_costs_those_who_talk_nothing(one: Answerer) -> None:
    with RelayWorker(datagrams=True, udp_sessions=32) as relay:
        relay.apply(endpoint("one", one.address))
        with clients(relay.address, 20) as regulars:
            for client in (*regulars, *regulars):
                assert ask(client) == "one"
            for _ in range(10):
                with clients(relay.address, 50) as flood:
                    for client in flood:
                        client.send(b"and gone")
                assert {ask(client) for client in regulars[:5]} == {"one"}
            for client in regulars:
                assert ask(client) == "one"
        eventually(lambda: relay.counter("udp_sessions") == 20 + 500, what="no regular had to begin anew")
        assert relay.instance("one").connections <= 32
        assert relay.counter("udp_evicted") >= 500 - 32


@contextlib.contextmanager
def small_relay(files: int) -> Iterator[tuple[Relay, Route, Route]]:
    """A relay in a thread that may have so many files, with a route for connections and one for datagrams."""
    loop = Loop()
    failed: list[object] = []
    relay = Relay(loop, Limits(), files, lambda *broken: failed.append(broken))
    streams, datagrams = Route("s"), Route("s/udp")
    relay.listen(socket.create_server(("127.0.0.1", 0)), streams)
    relay.datagrams.serve(open_datagrams("127.0.0.1", 0)[0], datagrams, 60.0)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield relay, streams, datagrams
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        relay.close()
        loop.close()
    assert not failed


def test_datagrams_leave_the_files_to_tcp() -> None:
    """Sixty files for clients: as many sessions at first, and two fewer for each connection."""
    with (
        small_relay(80) as (relay, streams, datagrams),
        Instance() as tcp,
        UdpInstance() as udp,
        clients(relay.datagrams.ports[0].address, 100) as many,
    ):
        relay.apply(streams, [Endpoint("tcp", *tcp.address)])
        relay.apply(datagrams, [Endpoint("udp", *udp.address)])

        def all_say(word: bytes) -> None:
            for client in many:
                client.send(word)

        all_say(b"before")
        eventually(lambda: datagrams.counters["udp_sessions"] == 100)
        assert len(relay.datagrams.roll) == 60
        connected = [connect(relay.listeners[0].address) for _ in range(20)]
        eventually(lambda: relay.connections == 20)
        assert len(relay.datagrams.roll) == 60 - 2 * 20
        connected += [connect(relay.listeners[0].address) for _ in range(10)]
        eventually(lambda: relay.connections == 30)
        assert len(relay.datagrams.roll) == 0
        all_say(b"full")
        eventually(lambda: datagrams.counters["udp_no_room"] == 100)
        assert streams.counters["local_errors"] == 0
        assert len(connected) == 30


def test_a_busy_sender_does_not_keep_tcp_waiting() -> None:
    """One client sends as fast as it can; others connect and are answered meanwhile."""
    stop = threading.Event()
    with small_relay(200) as (relay, streams, datagrams), Instance() as tcp, UdpInstance() as udp:
        relay.apply(streams, [Endpoint("tcp", *tcp.address)])
        relay.apply(datagrams, [Endpoint("udp", *udp.address)])

        def send() -> None:
            with udp_client(relay.datagrams.ports[0].address) as sender:
                while not stop.is_set():
                    sender.send(b"x" * 64)

        busy = threading.Thread(target=send)
        busy.start()
        try:
            eventually(lambda: relay.datagrams.roll)
            for _ in range(20):
                client = connect(relay.listeners[0].address)
                client.sendall(b"?")
                assert tcp.accept().recv(1) == b"?"
        finally:
            stop.set()
            busy.join()


def test_a_worker_that_carries_datagrams_is_small(one: Answerer) -> None:
    with RelayWorker(datagrams=True) as relay:
        relay.apply(endpoint("one", one.address))
        with clients(relay.address, 100) as many:
            assert {ask(client) for client in many} == {"one"}
            assert relay.resident_kib() <= 20 * 1024


# --- what cannot be sent --------------------------------------------------------------------------------------------


def test_what_is_too_long_with_its_header_is_dropped_whole_and_counted() -> None:
    with RelayWorker(datagrams=True, route={"send_proxy": 2}) as relay, UdpInstance() as server:
        relay.apply(endpoint("one", server.address))
        with udp_client(relay.address) as client:
            client.send(bytes(LARGEST))
            eventually(lambda: relay.counter("udp_errors") == 1)
            client.send(b"short")
            assert server.receive()[0].endswith(b"short")


# --- ends -----------------------------------------------------------------------------------------------------------


def port_is_free(relay: RelayWorker) -> bool:
    try:
        udp_socket(*relay.address).close()
    except OSError:
        return False
    return True


def test_a_drain_carries_known_clients_on_until_they_are_silent(one: Answerer) -> None:
    with RelayWorker(datagrams=True) as relay:
        relay.apply(endpoint("one", one.address))
        with udp_client(relay.address) as known, udp_client(relay.address, 0.5) as new:
            assert ask(known) == "one"
            relay.drain(30.0)
            relay.listener.close()
            until = time.monotonic() + 3
            while time.monotonic() < until:
                assert ask(known) == "one"
                time.sleep(0.05)
            with pytest.raises(TimeoutError):
                ask(new)
            assert relay.process.poll() is None
            assert relay.process.wait(10) == 0
    assert relay.counter("udp_no_room") == 1


def test_a_drain_ends_in_time_however_much_is_said(one: Answerer) -> None:
    with RelayWorker(datagrams=True) as relay:
        relay.apply(endpoint("one", one.address))
        with udp_client(relay.address) as client:
            assert ask(client) == "one"
            relay.drain(0.5)
            ended = time.monotonic() + 10
            while relay.process.poll() is None and time.monotonic() < ended:
                with contextlib.suppress(ConnectionRefusedError):
                    client.send(b"more")
                time.sleep(0.05)
    assert relay.process.returncode == 0


def test_a_worker_without_a_parent_gives_its_port_back_at_once(one: Answerer) -> None:
    """The next parent shall have it, though connections may go on here."""
    with RelayWorker(datagrams=True, orphan_drain=60.0) as relay:
        relay.apply(endpoint("one", one.address))
        with udp_client(relay.address) as client:
            assert ask(client) == "one"
        relay.listener.close()
        assert not port_is_free(relay)
        relay.control.shutdown(socket.SHUT_RDWR)
        eventually(lambda: port_is_free(relay))
        assert relay.process.wait(10) == 0


def test_a_port_that_is_closed_is_free_and_its_clients_are_forgotten(one: Answerer) -> None:
    with RelayWorker(datagrams=True) as relay:
        relay.apply(endpoint("one", one.address))
        with udp_client(relay.address) as client:
            assert ask(client) == "one"
        relay.listener.close()
        relay.send(Close(relay.route, *relay.address))
        eventually(lambda: port_is_free(relay))
        eventually(lambda: relay.instance("one").connections == 0)
        assert relay.process.poll() is None
