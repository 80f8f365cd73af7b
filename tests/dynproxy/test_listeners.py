"""The sockets of a front: for both protocols, for one, and when somebody else has the port."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ambcore.errors import ConfigError
from ambcore.model import Protocol
from dynproxy.config import Front
from dynproxy.listeners import Listening, listen
from tests.support.netns import Namespace
from tests.support.ports import free_port
from tests.support.udp_peers import udp_socket

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def taken(port: int) -> Iterator[socket.socket]:
    """Somebody's DNS server."""
    with udp_socket(HOST, port) as made:
        yield made


def names(listening: Listening) -> list[tuple[str, tuple[str, int]]]:
    return list(listening.places())


def test_a_front_listens_for_both_protocols(port: int) -> None:
    listening = listen(Front("dns", port), HOST, 1)
    assert names(listening) == [("dns", (HOST, port)), ("dns/udp", (HOST, port))]
    listening.close()


@pytest.mark.parametrize(("protocol", "route"), [(Protocol.TCP, "dns"), (Protocol.UDP, "dns/udp")])
def test_a_front_may_be_for_one_protocol(port: int, protocol: Protocol, route: str) -> None:
    listening = listen(Front("dns", port, protocol), HOST, 1)
    assert names(listening) == [(route, (HOST, port))]
    listening.close()


def test_a_taken_udp_port_is_done_without_and_said(
    port: int, taken: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    listening = listen(Front("dns", port), HOST, 2)
    assert names(listening) == [("dns", (HOST, port))]
    assert listening.served == Front("dns", port, Protocol.TCP)
    assert f"UDP port {HOST}:{port}: Address already in use" in caplog.text
    listening.close()


def test_a_taken_udp_port_of_a_front_for_udp_alone_is_an_error(port: int, taken: socket.socket) -> None:
    with pytest.raises(ConfigError, match=rf"PORT: {HOST}:{port}: Address already in use"):
        listen(Front("dns", port, Protocol.UDP), HOST, 2)


def test_every_worker_has_a_socket_of_its_own_for_datagrams_and_shares_the_one_for_connections(port: int) -> None:
    listening = listen(Front("dns", port), HOST, 3)
    sockets = [dict(listening.routes(slot)) for slot in range(3)]
    assert len({made["dns"][0].fileno() for made in sockets}) == 1
    assert len({made["dns/udp"][0].fileno() for made in sockets}) == 3
    assert {made["dns/udp"][0].getsockname() for made in sockets} == {(HOST, port)}
    listening.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_two_proxies_do_not_share_a_port_unawares(port: int, workers: int) -> None:
    """The kernel would give each a part of the clients."""
    first = listen(Front("dns", port, Protocol.UDP), HOST, workers)
    with pytest.raises(ConfigError):
        listen(Front("dns", port, Protocol.UDP), HOST, workers)
    first.close()
    listen(Front("dns", port, Protocol.UDP), HOST, workers).close()


def test_clients_are_spread_over_the_workers_and_each_stays_with_one(port: int) -> None:
    listening = listen(Front("dns", port, Protocol.UDP), HOST, 2)
    sockets = [dict(listening.routes(slot))["dns/udp"][0] for slot in range(2)]
    counts: list[dict[object, int]] = []
    clients = [udp_socket(HOST) for _ in range(40)]
    for client in clients * 3:
        client.sendto(b"x", (HOST, port))
    for sock in sockets:
        found: dict[object, int] = {}
        while True:
            try:
                _, client_address = sock.recvfrom(10)
            except BlockingIOError:
                break
            found[client_address] = found.get(client_address, 0) + 1
        counts.append(found)
    assert all(counts), "by chance, one time in 2 ** 39, one of them gets nobody"
    assert not set(counts[0]) & set(counts[1])
    assert {count for found in counts for count in found.values()} == {3}
    for sock in clients:
        sock.close()
    listening.close()


def test_all_addresses_are_both_families_in_one_socket(port: int) -> None:
    listening = listen(Front("dns", port, Protocol.UDP), None, 1)
    [(_, [sock])] = listening.routes(0)
    for host in ("127.0.0.1", "::1"):
        with udp_socket(host) as client:
            client.sendto(host.encode(), (host, port))
            sock.settimeout(10)
            assert sock.recv(100).decode() == host
    listening.close()


@pytest.mark.netns
def test_a_front_on_an_address_of_its_own_does_not_wait_until_that_is_settled() -> None:
    """A bridge to which nobody is connected yet has its IPv6 address on trial, where one cannot bind otherwise."""
    front = Front("redis-A", 6379, host="fd00:6379::1")

    def refused_then_open() -> tuple[str, int]:
        with pytest.raises(ConfigError, match="Cannot assign requested address"):
            listen(Front(front.service, front.port), front.host, 1)
        listening = listen(front, None, 1)
        places = len(names(listening))
        listening.close()
        return front.service, places

    with Namespace() as there:
        there.run("ip", "link", "add", "br-test", "type", "bridge")
        there.run("ip", "link", "set", "br-test", "up")
        there.run("ip", "address", "add", f"{front.host}/64", "dev", "br-test")
        assert there.call(refused_then_open) == ("redis-A", 2)
