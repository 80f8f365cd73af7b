"""Whom a relay serves: the decision, and what becomes of those outside."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.admission import parse_networks
from ambnet.relay.access import ANYBODY, Access
from tests.support.relay_peers import Address, Greeter, ask, connect, receive_all, was_reset
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.waiting import eventually


def refused(address: Address) -> bool:
    """Whether a client is reset, be it before it knows that it was connected."""
    try:
        return was_reset(connect(address))
    except ConnectionResetError:
        return True


def test_without_a_list_nobody_is_asked_about() -> None:
    assert ANYBODY.anybody
    assert ANYBODY.admits("192.0.2.1")
    assert not ANYBODY.expects_header("192.0.2.1")
    assert not Access(parse_networks("10.0.0.0/8")).anybody
    assert not Access((), parse_networks("10.0.0.0/8")).anybody


@pytest.mark.parametrize(
    ("networks", "source", "inside"),
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "2001:db8::1", False),
        ("10.0.0.0/8,2001:db8::/32", "2001:db8::1", True),
        ("::/0", "10.0.0.1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:0:0/96", "10.1.2.3", True),
    ],
)
def test_a_client_is_served_inside_the_networks(networks: str, source: str, inside: bool) -> None:
    access = Access(parse_networks(networks), parse_networks(networks))
    assert access.admits(source) is inside
    assert access.expects_header(source) is inside


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=4), st.ip_addresses(v=4), st.integers(0, 32))
def test_lists_of_networks_judge_as_their_members_do(
    hosts: list[ipaddress.IPv4Address], source: ipaddress.IPv4Address, bits: int
) -> None:
    networks = [ipaddress.ip_network((host, bits), strict=False) for host in hosts]
    access = Access(networks)
    expected = any(int(source) >> (32 - bits) == int(host) >> (32 - bits) for host in hosts)
    assert access.admits(str(source)) is expected
    assert access.admits(str(source)) is expected  # remembered


def test_a_client_outside_is_reset_at_once_and_counted() -> None:
    with Greeter("one") as one, RelayWorker(setup={"allow": ["127.0.0.2/32", "192.0.2.0/24"]}) as relay:
        relay.apply(endpoint("one", one))
        assert refused(relay.address)
        with socket.create_connection(relay.address, 10, ("127.0.0.2", 0)) as client:
            assert receive_all(client) == b"one"
        eventually(lambda: relay.counter("not_allowed") == 1)
        eventually(lambda: relay.counter("connected") == 1)
        eventually(lambda: "redis-A: a client at 127.0.0.1 is refused, it is outside --allow" in relay.log)
        eventually(lambda: relay.connections == 0)


def test_refused_clients_leave_nothing_open() -> None:
    with RelayWorker(setup={"allow": ["192.0.2.0/24"]}, max_connections=2) as relay:
        before = relay.open_files()
        for _ in range(100):
            assert refused(relay.address)
        eventually(lambda: relay.counter("not_allowed") == 100)
        eventually(lambda: relay.open_files() == before)


def test_an_ipv4_client_of_a_listener_for_both_families_is_known_by_its_ipv4_address() -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with listener, Greeter("one") as one, RelayWorker(listener=listener, setup={"allow": ["127.0.0.0/8"]}) as relay:
        relay.apply(endpoint("one", one))
        assert ask(("127.0.0.1", relay.address[1])) == "one"
        assert refused(("::1", relay.address[1]))
