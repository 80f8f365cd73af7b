"""Datagrams through a real worker: whose they are, where they go, when they move on."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from ambnet.relay.limits import Limits
from ambnet.relay.loop import IN, Loop
from ambnet.relay.relay import Relay
from ambnet.relay.route import Route
from ambnet.relay.sockets import open_datagrams
from ambnet.relay.upstream import EJECT_AFTER, Endpoint
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.udp_peers import (
    SIZES,
    Answerer,
    UdpInstance,
    ask,
    ask_until,
    clients,
    closed_port,
    echo,
    pattern,
    udp_client,
)
from tests.support.waiting import eventually


@pytest.fixture
def relay() -> Iterator[RelayWorker]:
    with RelayWorker(datagrams=True) as worker:
        yield worker


@pytest.fixture
def client(relay: RelayWorker) -> Iterator[socket.socket]:
    with udp_client(relay.address) as made:
        yield made


@pytest.fixture
def one() -> Iterator[Answerer]:
    with Answerer("one") as made:
        yield made


@pytest.fixture
def two() -> Iterator[Answerer]:
    with Answerer("two") as made:
        yield made


def at(server: UdpInstance, name: str = "", *, takes_new: bool = True) -> Endpoint:
    """The endpoint of a server, by its own name unless told."""
    return endpoint(name or getattr(server, "name", "one"), server.address, takes_new=takes_new)


@pytest.mark.parametrize("size", SIZES)
def test_a_datagram_of_any_size_passes_exactly_both_ways(relay: RelayWorker, client: socket.socket, size: int) -> None:
    with echo() as server:
        relay.apply(at(server))
        sent = pattern(size)
        client.send(sent)
        assert client.recv(1 << 17) == sent
        eventually(lambda: relay.instance("echo").bytes_in == relay.instance("echo").bytes_out == size)


def test_datagrams_stay_apart_and_in_order(relay: RelayWorker, client: socket.socket) -> None:
    """Each is one, the empty ones included: nothing is joined, split, lost or made up."""
    sent = [pattern(size) for size in (3, 0, 5, 0, 0, 1400, 1)]
    with UdpInstance() as server:
        relay.apply(at(server))
        for data in sent:
            client.send(data)
        received = [server.receive() for _ in sent]
        assert [data for data, _ in received] == sent
        for data in reversed(sent):
            server.sock.sendto(data, received[0][1])
        assert [client.recv(2000) for _ in sent] == sent[::-1]


def test_a_client_keeps_its_instance_and_another_port_is_another_client(
    relay: RelayWorker, one: Answerer, two: Answerer
) -> None:
    relay.apply(at(one), at(two))
    with clients(relay.address, 4) as many:
        first = [ask(client) for client in many]
        assert sorted(first) == ["one", "one", "two", "two"]
        for _ in range(3):
            assert [ask(client) for client in many] == first
    eventually(lambda: relay.instance("one").connections == relay.instance("two").connections == 2)
    assert relay.counter("udp_sessions") == 4


def test_a_source_hash_knows_a_client_by_its_address_without_the_port(one: Answerer, two: Answerer) -> None:
    with RelayWorker(policy="source-hash", datagrams=True) as relay:
        relay.apply(at(one), at(two))
        with clients(relay.address, 8) as many:
            assert len({ask(client) for client in many}) == 1


def test_each_client_hears_its_own_instance_alone(relay: RelayWorker) -> None:
    """A stranger who sends to a session's socket is not heard: it is connected."""
    with UdpInstance() as server, UdpInstance() as stranger, clients(relay.address, 2) as (one, two):
        relay.apply(at(server))
        one.send(b"1")
        two.send(b"2")
        senders = dict(server.receive() for _ in range(2))
        stranger.sock.sendto(b"forged", senders[b"1"])
        for word, sender in senders.items():
            server.sock.sendto(word * 2, sender)
        assert (one.recv(100), two.recv(100)) == (b"11", b"22")


def test_a_datagram_without_an_instance_is_dropped_and_counted(relay: RelayWorker, client: socket.socket) -> None:
    """Not known and none are the same here: nothing is parked, and the client is served from when there is one."""
    client.send(b"nobody knows")
    eventually(lambda: relay.counter("udp_no_instance") == 1)
    relay.apply()
    client.send(b"nobody is there")
    eventually(lambda: relay.counter("udp_no_instance") == 2)
    with UdpInstance() as server:
        relay.apply(at(server))
        client.send(b"somebody")
        assert server.receive()[0] == b"somebody"


def test_C23_the_datagram_that_met_a_refusal_is_answered_by_the_next_instance(
    relay: RelayWorker, one: Answerer
) -> None:
    relay.apply(endpoint("gone", closed_port()), at(one))
    with clients(relay.address, 6) as many:
        assert {ask(client) for client in many} == {"one"}
    eventually(lambda: relay.counter("udp_moved") == EJECT_AFTER)
    assert relay.counter("udp_refused") == relay.instance("gone").connect_failures == EJECT_AFTER
    assert relay.instance("gone").ejected
    assert any("gone ejected" in line for line in relay.log)


def test_C23_a_session_in_use_moves_when_its_instance_dies(relay: RelayWorker, one: Answerer, two: Answerer) -> None:
    relay.apply(at(one), at(two))
    with udp_client(relay.address) as client:
        assert ask(client) == "one"
        one.close()
        assert [ask(client) for _ in range(3)] == ["two"] * 3
    eventually(lambda: relay.counter("udp_moved") == 1)
    assert relay.instance("one").connections == 0


def test_a_long_datagram_that_met_a_refusal_is_lost_and_the_next_one_is_not(
    relay: RelayWorker, client: socket.socket, one: Answerer
) -> None:
    """Only short ones are kept to be sent again."""
    relay.apply(endpoint("gone", closed_port()), at(one))
    client.send(bytes(9000))
    eventually(lambda: relay.counter("udp_refused") == 1)
    assert ask(client) == "one"


def test_a_datagram_that_everybody_refuses_is_given_up_and_counted(relay: RelayWorker, client: socket.socket) -> None:
    """Each instance is asked once for it; a later one is sent again to those that were known to refuse."""
    free = closed_port()
    relay.apply(endpoint("gone", free), endpoint("gone too", closed_port()))
    client.send(b"lost")
    eventually(lambda: relay.counter("udp_unanswered") == 1)
    assert relay.counter("udp_refused") == 2
    with Answerer("back", free[1]):
        assert ask_until(client, ["back"]) == "back"


def test_pain_23_replies_resume_with_the_next_datagram_after_an_instance_is_removed(
    relay: RelayWorker, client: socket.socket, one: Answerer, two: Answerer
) -> None:
    relay.apply(at(one))
    assert ask(client) == "one"
    relay.apply(at(two))
    assert ask(client) == "two"
    eventually(lambda: relay.instance("one").connections == 0)


def test_pain_23_a_client_outlives_a_time_without_instances(
    relay: RelayWorker, client: socket.socket, one: Answerer, two: Answerer
) -> None:
    """N, then none, then N, whether the same one or another comes back."""
    for server in (one, one, two, one):
        relay.apply(at(server))
        assert ask(client) == server.name
        dropped = relay.counter("udp_no_instance")
        relay.apply()
        client.send(b"nobody is there")
        eventually(lambda: relay.counter("udp_no_instance") == dropped + 1)  # noqa: B023 - it is called at once


def test_an_instance_that_drains_keeps_its_clients_and_gets_no_new_ones(
    relay: RelayWorker, client: socket.socket, one: Answerer, two: Answerer
) -> None:
    relay.apply(at(one))
    assert ask(client) == "one"
    relay.apply(at(one, takes_new=False), at(two))
    assert ask(client) == "one"
    with clients(relay.address, 4) as newcomers:
        assert {ask(newcomer) for newcomer in newcomers} == {"two"}


def test_ipv6_instances_serve_ipv4_clients(relay: RelayWorker, client: socket.socket) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::1", 0))
        server.settimeout(10)
        relay.apply(Endpoint("six", "::1", server.getsockname()[1]))
        client.send(b"four")
        data, sender = server.recvfrom(100)
        server.sendto(data + b" to six", sender)
        assert client.recv(100) == b"four to six"


def test_what_an_instance_answered_before_it_died_is_passed_on() -> None:
    """The kernel tells of the refusal first. Each step is taken by hand, so that both wait at the same moment."""
    loop = Loop()
    relay, route = Relay(loop, Limits(), 1000, lambda *_: None), Route("dns/udp")
    relay.datagrams.serve(open_datagrams("127.0.0.1", 0)[0], route, 60.0)
    port = relay.datagrams.ports[0]
    with UdpInstance() as dying, UdpInstance() as other, udp_client(port.address) as client:
        relay.apply(route, [at(dying, "dying"), at(other, "other")])
        client.send(b"first")
        port.ready(IN)
        _, session = dying.receive()
        dying.sock.sendto(b"answer", session)
        dying.close()
        client.send(b"second")
        port.ready(IN)
        next(iter(relay.datagrams.roll)).ready(IN | select.EPOLLERR)
        assert client.recv(100) == b"answer"
        assert other.receive()[0] == b"second"
    relay.close()
    loop.close()
