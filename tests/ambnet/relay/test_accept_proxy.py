"""Headers of the PROXY protocol in front of clients' bytes: from whom they are taken, how exactly, for how long."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest

from ambcore.proxy_protocol import MAX_V1, SIGNATURE, encode, local
from tests.support.relay_peers import (
    Greeter,
    Instance,
    connect,
    in_thread,
    receive,
    receive_all,
    receive_digest,
    reset,
    was_reset,
)
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.waiting import eventually

CLIENT, ASKED = ("203.0.113.7", 40000), ("198.51.100.1", 6379)
HEADERS = {
    "v1": encode(1, CLIENT, ASKED),
    "v2": encode(2, CLIENT, ASKED),
    "v1 for IPv6": encode(1, ("2001:db8::7", 1), ("2001:db8::1", 2)),
    "v2 with more": SIGNATURE + b"\x21\x11\x00\x20" + bytes(32),
    "v1 of an unknown": b"PROXY UNKNOWN\r\n",
    "v2 of its own": local(2),
}

trusting = partial(RelayWorker, setup={"accept_proxy": ["127.0.0.1/32"]})


@pytest.fixture
def relay(instance: Instance) -> Iterator[RelayWorker]:
    with trusting() as worker:
        worker.apply(endpoint("one", instance))
        yield worker


def drip(sock: socket.socket, words: bytes) -> None:
    """Send ten bytes a second."""
    for byte in words:
        sock.sendall(bytes([byte]))
        time.sleep(0.1)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_goes_no_further_and_what_follows_it_does(
    relay: RelayWorker, instance: Instance, header: bytes
) -> None:
    client = connect(relay.address)
    client.sendall(header + b"PING\r\n")
    server = instance.accept()
    assert receive(server, 6) == b"PING\r\n"
    server.sendall(b"PONG")
    assert receive(client, 4) == b"PONG"


@pytest.mark.parametrize("header", [HEADERS["v1"], HEADERS["v2 with more"]], ids=["v1", "v2"])
def test_C27_proxy_protocol_split_at_each_byte(relay: RelayWorker, instance: Instance, header: bytes) -> None:
    """The relay has seen the first part of each before the rest is sent."""
    clients = [connect(relay.address) for _ in range(1, len(header))]
    for end, client in enumerate(clients, 1):
        client.sendall(header[:end])
    eventually(lambda: relay.connections == len(clients))
    for end, client in enumerate(clients, 1):
        client.sendall(header[end:] + b"x" * end)
        client.shutdown(socket.SHUT_WR)
    received = sorted(receive_all(instance.accept()) for _ in clients)
    assert received == [b"x" * end for end in range(1, len(header))]
    eventually(lambda: relay.counter("connected") == len(clients))
    assert relay.counter("proxy_header_refused") == 0


def test_C27_proxy_protocol_byte_by_byte(relay: RelayWorker, instance: Instance) -> None:
    client = connect(relay.address)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in HEADERS["v1"] + b"x":
        client.sendall(bytes([byte]))
        time.sleep(0.001)
    assert receive(instance.accept(), 1) == b"x"


def test_small_pieces_after_a_header_that_came_in_parts_are_passed_on_at_once(
    relay: RelayWorker, instance: Instance
) -> None:
    """What the relay told the kernel while it waited for the header holds no longer."""
    client = connect(relay.address)
    client.sendall(HEADERS["v2"][:-1])
    eventually(lambda: relay.connections == 1)
    client.sendall(HEADERS["v2"][-1:])
    server = instance.accept()
    for _ in range(3):
        client.sendall(b"x")
        assert receive(server, 1) == b"x"


def test_a_server_that_speaks_first_is_heard_before_the_client_says_more(
    relay: RelayWorker, instance: Instance
) -> None:
    client = connect(relay.address)
    client.sendall(HEADERS["v1"])
    instance.accept().sendall(b"220 ready")
    assert receive(client, 9) == b"220 ready"


def test_a_client_that_ends_right_after_its_header_and_request_is_answered(
    relay: RelayWorker, instance: Instance
) -> None:
    client = connect(relay.address)
    client.sendall(HEADERS["v1"] + b"request")
    client.shutdown(socket.SHUT_WR)
    server = instance.accept()
    assert receive_all(server) == b"request"
    server.sendall(b"answer")
    server.close()
    assert receive_all(client) == b"answer"


def test_bulk_behind_a_header_is_passed_on_byte_for_byte(relay: RelayWorker, instance: Instance) -> None:
    size = 8 << 20
    client = connect(relay.address)
    in_thread(lambda: client.sendall(HEADERS["v2"] + bytes(size)))
    assert receive_digest(instance.accept(), size) == hashlib.sha256(bytes(size)).hexdigest()


@pytest.mark.parametrize(
    "words",
    [
        b"PING\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 040000 6379\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 6379\n",
        b"PROXY UNKNOWN" + b" " * MAX_V1,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(64),
    ],
)
def test_C27_proxy_protocol_what_is_no_header_is_reset(relay: RelayWorker, words: bytes) -> None:
    """Nothing is guessed: one who has to send a header is not served without."""
    client = connect(relay.address)
    client.sendall(words)
    assert was_reset(client)
    eventually(lambda: relay.counter("proxy_header_refused") == 1)
    assert relay.counter("connected") == 0
    assert any("PROXY header from 127.0.0.1 refused: " in line for line in relay.log)


def test_a_header_that_is_cut_short_is_refused(relay: RelayWorker) -> None:
    client = connect(relay.address)
    client.sendall(HEADERS["v1"][:20])
    client.shutdown(socket.SHUT_WR)
    assert was_reset(client)
    eventually(lambda: relay.counter("proxy_header_refused") == 1)


def test_who_only_asks_whether_anybody_listens_is_no_offender(relay: RelayWorker) -> None:
    connect(relay.address).close()
    reset(connect(relay.address))
    eventually(lambda: relay.counter("client_gone") == 2)
    eventually(lambda: relay.connections == 0)
    assert relay.counter("proxy_header_refused") == 0


def test_C27_proxy_protocol_late_headers_are_refused_and_cost_nothing_meanwhile(relay: RelayWorker) -> None:
    """Silence, a part, and a drip: each has five seconds in all, and the relay sleeps while it waits for them."""
    clients = [connect(relay.address) for _ in range(3)]
    clients[1].sendall(HEADERS["v1"][:20])
    began, used = time.monotonic(), relay.cpu_seconds()
    with pytest.raises(ConnectionError):
        drip(clients[2], b"PROXY UNKNOWN " + b"x" * 80)
    assert all(was_reset(client) for client in clients[:2])
    took = time.monotonic() - began
    assert 4.5 < took < 15
    assert relay.cpu_seconds() - used < 0.2 * took
    eventually(lambda: relay.counter("proxy_header_refused") == 3)
    eventually(lambda: relay.connections == 0)


def test_clients_without_their_header_count_as_connections(instance: Instance) -> None:
    with trusting(max_connections=2) as relay:
        relay.apply(endpoint("one", instance))
        silent = [connect(relay.address) for _ in range(2)]
        eventually(lambda: relay.connections == 2)
        client = connect(relay.address)
        client.sendall(HEADERS["v1"] + b"x")
        eventually(lambda: any("no more fit" in line for line in relay.log))
        assert relay.connections == 2
        silent[0].close()
        assert receive(instance.accept(), 1) == b"x"


def test_a_drain_waits_for_a_header_that_is_on_its_way(relay: RelayWorker, instance: Instance) -> None:
    client = connect(relay.address)
    client.sendall(HEADERS["v1"][:10])
    eventually(lambda: relay.connections == 1)
    relay.drain(5.0)
    client.sendall(HEADERS["v1"][10:] + b"x")
    client.shutdown(socket.SHUT_WR)
    server = instance.accept()
    assert receive_all(server) == b"x"
    server.close()
    assert relay.process.wait(5) == 0


# --- who counts -------------------------------------------------------------------------------------------------------


def test_C27_proxy_protocol_a_spoofed_header_from_elsewhere_is_the_clients_own_words(instance: Instance) -> None:
    """It moves no list and no balance, and the instance hears the truth in front of it."""
    access = {"accept_proxy": ["127.0.0.2/32"], "allow": ["127.0.0.1/32"]}
    with RelayWorker(setup=access, route={"send_proxy": 1}) as relay:
        relay.apply(endpoint("one", instance))
        client = connect(relay.address)
        client.sendall(HEADERS["v1"])
        client.shutdown(socket.SHUT_WR)
        truth = encode(1, client.getsockname(), relay.address)
        assert receive_all(instance.accept()) == truth + HEADERS["v1"]


def test_the_named_client_is_who_is_allowed_or_not(instance: Instance) -> None:
    with RelayWorker(setup={"accept_proxy": ["127.0.0.1/32"], "allow": ["203.0.113.0/24"]}) as relay:
        relay.apply(endpoint("one", instance))
        inside, outside, nobody = (connect(relay.address) for _ in range(3))
        outside.sendall(encode(2, ("192.0.2.1", 1), ASKED))
        assert was_reset(outside)
        nobody.sendall(local(2))  # then it is the sender itself that counts
        assert was_reset(nobody)
        inside.sendall(HEADERS["v1"] + b"x")
        assert receive(instance.accept(), 1) == b"x"
        eventually(lambda: relay.counter("not_allowed") == 2)
        assert relay.counter("proxy_header_refused") == 0


def test_the_named_client_is_who_is_hashed() -> None:
    def answer(relay: RelayWorker, number: int) -> bytes:
        client = connect(relay.address)
        client.sendall(encode(2, (f"203.0.113.{number}", 1000 + number), ASKED))
        return receive_all(client)

    with contextlib.ExitStack() as stack:
        greeters = [stack.enter_context(Greeter(name)) for name in ("a", "b", "c")]
        relay = stack.enter_context(trusting(policy="source-hash"))
        relay.apply(*(endpoint(each.name, each) for each in greeters))
        first = [answer(relay, number) for number in range(30)]
        assert set(first) == {b"a", b"b", b"c"}
        assert [answer(relay, number) for number in range(30)] == first
