"""Where a record may send traffic."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.admission import NEVER, Admission, IPNetwork, parse_networks
from ambcore.errors import RecordError
from ambcore.model import Address
from tests.ambcore.strategies import addresses

OPEN = Admission()
OWN = Address("10.0.0.1", 6379)


def reason(admission: Admission, host: str, port: int = 6379) -> str | None:
    """Why an address is refused; None when it is welcome."""
    try:
        admission.check(Address(host, port))
    except RecordError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",  # noqa: S104 - a value to refuse
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "169.254.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
def test_an_address_that_is_never_an_instances_is_refused(host: str) -> None:
    assert reason(OPEN, host) == "address_denied"


@pytest.mark.parametrize(
    "host",
    ["10.1.2.3", "192.168.1.1", "172.17.0.2", "100.64.0.1", "8.8.8.8", "2001:db8::7", "fd12::1", "::ffff:10.1.2.3"],
)
def test_private_and_public_addresses_are_welcome(host: str) -> None:
    assert reason(OPEN, host) is None


@pytest.mark.parametrize("network", NEVER, ids=str)
def test_every_denied_network_is_denied_from_its_first_address_to_its_last(network: IPNetwork) -> None:
    assert reason(OPEN, str(network[0])) == "address_denied"
    assert reason(OPEN, str(network[-1])) == "address_denied"


def test_the_operators_networks_replace_the_default_rule() -> None:
    inside = Admission(instances_in=parse_networks("10.1.0.0/16, 2001:db8::/32, 127.0.0.1/32"))
    assert [reason(inside, host) for host in ("10.1.2.3", "2001:db8::7", "127.0.0.1")] == [None] * 3
    assert [reason(inside, host) for host in ("10.2.0.1", "2001:db9::1", "127.0.0.2")] == ["address_denied"] * 3


def test_a_mapped_address_is_judged_as_the_one_it_stands_for() -> None:
    inside = Admission(instances_in=parse_networks("10.1.0.0/16"))
    assert reason(inside, "::ffff:10.1.2.3") is None
    assert reason(inside, "::ffff:10.2.0.1") == "address_denied"


@pytest.mark.parametrize("networks", ["", "10.0.0.0/8"])
def test_the_proxys_own_listener_is_refused_whatever_else_is_allowed(networks: str) -> None:
    admission = Admission(parse_networks(networks), own=frozenset({OWN}))
    assert reason(admission, OWN.host, OWN.port) == "own_listener"
    assert reason(admission, f"::ffff:{OWN.host}", OWN.port) == "own_listener"
    assert reason(admission, OWN.host, OWN.port + 1) is None


def test_the_gateway_of_dockers_bridge_is_refused_unless_it_is_listed() -> None:
    """Every host has it, and it leads to what listens there for containers alone."""
    by_default = Admission(bridge=frozenset({ipaddress.ip_address("172.17.0.1")}))
    assert [reason(by_default, host) for host in ("172.17.0.1", "::ffff:172.17.0.1")] == ["address_denied"] * 2
    assert reason(by_default, "172.17.0.2") is None
    listed = Admission(parse_networks("172.17.0.1/32"), bridge=by_default.bridge)
    assert reason(listed, "172.17.0.1") is None


@given(addresses, st.sets(st.ip_addresses(), max_size=3))
def test_an_address_is_welcome_exactly_inside_the_given_networks(
    address: Address, hosts: set[ipaddress.IPv4Address]
) -> None:
    networks = tuple(ipaddress.ip_network(host) for host in hosts)
    admitted = reason(Admission(networks), address.host, address.port) is None
    allowed = {ip for network in networks for ip in network} or None
    inside_never = any(address.ip in network for network in NEVER)
    assert admitted == (address.ip in allowed if allowed else not inside_never)


def test_a_mapped_network_is_the_one_it_stands_for() -> None:
    expected = parse_networks("0.0.0.0/0, 10.0.0.0/8, 10.1.2.3/32, ::/0")
    assert parse_networks("::ffff:0:0/96, ::ffff:10.0.0.0/104, ::ffff:a01:203, ::/0") == expected


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_no_network_is_no_rule(text: str) -> None:
    assert parse_networks(text) == ()


@pytest.mark.parametrize(
    ("text", "wrong"), [("10.0.0.1/8", "10.0.0.1/8"), ("10.0.0.0/8,x", "'x'"), ("10.0.0.0/33", "/33")]
)
def test_a_wrong_network_is_named(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_networks(text)
