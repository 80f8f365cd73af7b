"""Instances are told who the client is, in front of its first byte."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator

import pytest

from ambcore.proxy_protocol import SIGNATURE, encode, local
from tests.support.relay_peers import Instance, connect, in_thread, receive, receive_all, receive_digest, refusing
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.waiting import eventually

STARTS = {
    (1, "127.0.0.1"): b"PROXY TCP4 127.0.0.1 127.0.0.1 ",
    (1, "::1"): b"PROXY TCP6 ::1 ::1 ",
    (2, "127.0.0.1"): SIGNATURE + b"\x21\x11",
    (2, "::1"): SIGNATURE + b"\x21\x21",
}
NAMED, ASKED = ("2001:db8::7", 40000), ("2001:db8::1", 6379)


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def relay(version: int) -> Iterator[RelayWorker]:
    with RelayWorker(route={"send_proxy": version}) as worker:
        yield worker


def header(version: int, client: socket.socket) -> bytes:
    """What an instance has to be told of this client."""
    return encode(version, client.getsockname()[:2], client.getpeername()[:2])


def test_pain_26_an_instance_learns_the_clients_address(relay: RelayWorker, instance: Instance, version: int) -> None:
    relay.apply(endpoint("one", instance))
    client = connect(relay.address)
    server = instance.accept()
    expected = header(version, client)
    assert server.recv(1000) == expected  # in one piece, and before the client says a word
    client.sendall(b"PING")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b"PING"
    server.sendall(b"PONG")
    server.close()
    assert receive_all(client) == b"PONG"
    eventually(lambda: relay.instance("one").bytes_in == 4)  # what the client sent


def test_pain_26_an_instance_learns_the_clients_ipv6_address(version: int) -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    there = Instance(sock=socket.create_server(("::1", 0), family=socket.AF_INET6))
    with listener, there, RelayWorker(listener=listener, route={"send_proxy": version}) as relay:
        relay.apply(endpoint("one", there.address[:2]))
        for host in ("::1", "127.0.0.1"):
            client = connect((host, relay.address[1]))
            expected = header(version, client)
            assert expected.startswith(STARTS[version, host])
            assert there.accept().recv(1000) == expected


def test_the_header_stands_in_front_of_bulk_that_came_early(
    relay: RelayWorker, instance: Instance, version: int
) -> None:
    """The client has sent megabytes before there is an instance to tell."""
    size = 8 << 20
    client = connect(relay.address)
    in_thread(lambda: client.sendall(bytes(size)))
    eventually(lambda: relay.service.parked == 1)
    relay.apply(endpoint("one", instance))
    server = instance.accept()
    expected = header(version, client)
    assert receive(server, len(expected)) == expected
    assert receive_digest(server, size) == hashlib.sha256(bytes(size)).hexdigest()


def test_the_header_goes_to_whoever_answers(relay: RelayWorker, instance: Instance, version: int) -> None:
    relay.apply(endpoint("stale", refusing()), endpoint("one", instance))
    for _ in range(4):
        client = connect(relay.address)
        assert instance.accept().recv(1000) == header(version, client)


def test_what_a_proxy_in_front_says_is_passed_on_in_the_version_asked_for(instance: Instance, version: int) -> None:
    with RelayWorker(route={"send_proxy": version}, setup={"accept_proxy": ["127.0.0.0/8"]}) as relay:
        relay.apply(endpoint("one", instance))
        for spoken in (1, 2):
            client = connect(relay.address)
            client.sendall(encode(spoken, NAMED, ASKED))
            assert instance.accept().recv(1000) == encode(version, NAMED, ASKED)


def test_a_proxy_in_front_that_speaks_for_nobody_is_named_itself(instance: Instance, version: int) -> None:
    with RelayWorker(route={"send_proxy": version}, setup={"accept_proxy": ["127.0.0.0/8"]}) as relay:
        relay.apply(endpoint("one", instance))
        client = connect(relay.address)
        client.sendall(local(2))
        assert instance.accept().recv(1000) == header(version, client)


def test_an_instance_that_hangs_up_on_the_header_costs_its_client_the_connection_and_nobody_else(
    relay: RelayWorker, instance: Instance, version: int
) -> None:
    relay.apply(endpoint("one", instance))
    client = connect(relay.address)
    instance.accept().close()  # with the header unread: a reset
    with contextlib.suppress(ConnectionResetError):
        assert receive_all(client) == b""
    later = connect(relay.address)
    assert instance.accept().recv(1000) == header(version, later)
