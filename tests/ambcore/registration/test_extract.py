"""From an inspection to a record, or to the reason for none."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ambcore.model import Address, Instance, IPAddress, parse_ip
from ambcore.registration.extract import Host, Reason, Refusal, Run, Wish, extract, nanoseconds, run_of, unreachable
from tests.support.inspections import ALL, ID, NEVER_STARTED, STARTED, STARTED_NS, binding, container, stopped

WISH = Wish("redis-demo", 6379, "redis-A")
DOCKER0 = (ipaddress.ip_network("172.17.0.0/16"),)
BRIDGES = (*DOCKER0, ipaddress.ip_network("172.18.0.0/16"))
HOST = Host(advertise=parse_ip("10.1.2.3"), docker0=DOCKER0, bridges=BRIDGES)
V6 = "2001:db8::7"


def host(advertise: str | None = None, route: str | None = None) -> Host:
    return Host(parse_ip(advertise) if advertise else None, parse_ip(route) if route else None, DOCKER0, BRIDGES)


def test_a_published_port_becomes_a_record_with_the_containers_name_and_id() -> None:
    found = extract(container(binding()), WISH, HOST)
    assert found == Instance("redis-A", "redis-demo", Address("10.1.2.3", 49155), container=ID)


@pytest.mark.parametrize(
    ("bindings", "machine", "expected"),
    [
        ([binding(ALL)], host("10.1.2.3"), "10.1.2.3:49155"),
        ([binding("")], host("10.1.2.3"), "10.1.2.3:49155"),
        ([binding("")], host(V6), f"[{V6}]:49155"),
        ([binding("::")], host(V6), f"[{V6}]:49155"),
        ([binding(ALL, 1), binding("::", 2)], host("10.1.2.3"), "10.1.2.3:1"),
        ([binding(ALL, 1), binding("::", 2)], host(V6), f"[{V6}]:2"),
        ([binding("::", 2), binding(ALL, 1)], host("10.1.2.3"), "10.1.2.3:1"),
        ([binding(ALL)], host(route="192.0.2.2"), "192.0.2.2:49155"),
        ([binding(ALL)], host("10.1.2.3", route="192.0.2.2"), "10.1.2.3:49155"),
        ([binding("10.9.9.9")], host("10.1.2.3"), "10.9.9.9:49155"),
        ([binding("10.9.9.9")], host(), "10.9.9.9:49155"),
        ([binding("172.18.0.1")], host(), "172.18.0.1:49155"),
        ([binding(ALL)], host("172.18.0.1"), "172.18.0.1:49155"),
        ([binding("10.9.9.9", 1), binding("10.1.2.3", 2)], host("10.1.2.3"), "10.1.2.3:2"),
        ([binding("127.0.0.1", 1), binding("10.9.9.9", 2)], host("10.1.2.3"), "10.9.9.9:2"),
        ([binding("127.0.0.1", 1), binding(ALL, 2)], host("10.1.2.3"), "10.1.2.3:2"),
        ([binding("::ffff:10.9.9.9")], host(), "10.9.9.9:49155"),
        ([binding("nonsense", 1), binding("10.9.9.9", 2)], host(), "10.9.9.9:2"),
        ([{"HostIp": "10.9.9.9", "HostPort": "0"}, binding("10.9.9.9", 2)], host(), "10.9.9.9:2"),
    ],
)
def test_the_address_is_the_bindings_own_else_the_advertised_else_the_route_to_etcd(
    bindings: list[dict[str, str]], machine: Host, expected: str
) -> None:
    found = extract(container(*bindings), WISH, machine)
    assert isinstance(found, Instance), found
    assert str(found.address) == expected


@pytest.mark.parametrize(
    ("bindings", "machine", "says"),
    [
        ([binding(ALL)], host(), "no route to etcd"),
        ([binding(ALL)], host(route="127.0.0.1"), "every host has to itself"),
        ([binding(ALL)], host(route="172.17.0.5"), "bridge network"),
        ([binding(ALL)], host(route="172.18.0.5"), "bridge network"),
        ([binding(ALL)], host("172.17.0.1"), "bridge network"),
        ([binding(ALL)], host(route="169.254.3.4"), "no further than"),
        ([binding(ALL)], host(ALL), "no address to connect to"),
        ([binding("::")], host(route="::1"), "every host has to itself"),
        ([binding(ALL)], host(V6), "published for IPv4 only"),
        ([binding("::")], host("10.1.2.3"), "published for IPv6 only"),
    ],
)
def test_an_address_nobody_can_reach_is_refused_and_the_message_says_what_to_set(
    bindings: list[dict[str, str]], machine: Host, says: str
) -> None:
    found = extract(container(*bindings), WISH, machine)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.UNREACHABLE
    assert says in found.text
    assert "--advertise" in found.text
    assert "AMB_ADVERTISE" in found.text


@pytest.mark.parametrize("own", ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "172.17.0.1"])
def test_a_binding_that_reaches_nobody_is_refused_even_with_an_advertised_address(own: str) -> None:
    found = extract(container(binding(own)), WISH, HOST)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.UNREACHABLE
    assert own in found.text


@pytest.mark.parametrize(
    ("inspected", "reason"),
    [
        (None, Reason.ABSENT),
        (container(binding(), name="redis-demo-2"), Reason.ABSENT),
        (stopped(), Reason.NOT_RUNNING),
        (container(binding(), state={"Status": "created", "Running": False}), Reason.NOT_RUNNING),
        (container(binding(), state={"Status": "restarting", "Restarting": True}), Reason.NOT_RUNNING),
        (container(binding(), state={"Dead": True}), Reason.NOT_RUNNING),
        (container(binding(), state={"Status": "paused", "Paused": True}), Reason.PAUSED),
        (container(binding(), state={"Health": {"Status": "starting"}}), Reason.STARTING),
        (container(binding(), state={"Health": {"Status": "unhealthy"}}), Reason.UNHEALTHY),
        (container(), Reason.NOT_PUBLISHED),
        (container(binding(), port="6379/udp"), Reason.NOT_PUBLISHED),
        (container(binding(), port="16379/tcp"), Reason.NOT_PUBLISHED),
        (container(host_config={"NetworkMode": "container:abc"}), Reason.NOT_PUBLISHED),
        (container(host_config={"NetworkMode": "none"}), Reason.NOT_PUBLISHED),
        (container(host_config={"PortBindings": {"6379/tcp": [binding("", 0)]}}), Reason.PORT_PENDING),
        (container(host_config={"PublishAllPorts": True}), Reason.PORT_PENDING),
        ({}, Reason.ABSENT),
        ({"Name": "/redis-demo", "Id": ID}, Reason.NOT_RUNNING),
        ({"Name": "/redis-demo", "Id": ID, "State": {"Running": True}}, Reason.NOT_PUBLISHED),
    ],
)
def test_whatever_does_not_serve_has_no_record(inspected: dict[str, Any] | None, reason: Reason) -> None:
    found = extract(inspected, WISH, HOST)
    assert isinstance(found, Refusal), found
    assert found.reason is reason
    assert found.text.isprintable()


@pytest.mark.parametrize("health", [None, {}, {"Status": "none"}, {"Status": "healthy"}])
def test_a_healthy_container_and_one_without_health_check_are_in(health: dict[str, str] | None) -> None:
    assert isinstance(extract(container(binding(), state={"Health": health}), WISH, HOST), Instance)


def test_host_network_means_the_port_itself_on_this_hosts_address() -> None:
    inspected = container(host_config={"NetworkMode": "host"})
    found = extract(inspected, WISH, HOST)
    assert isinstance(found, Instance)
    assert str(found.address) == "10.1.2.3:6379"
    assert isinstance(extract(inspected, WISH, host(route="127.0.0.1")), Refusal)


def test_a_container_may_be_called_by_its_id_but_not_by_a_few_digits_of_it() -> None:
    inspected = container(binding())
    for wanted in (ID, ID[:12]):
        found = extract(inspected, Wish(wanted, 6379, "redis-A"), HOST)
        assert isinstance(found, Instance)
        assert found.id == "redis-demo"
    assert isinstance(extract(inspected, Wish(ID[:4], 6379, "redis-A"), HOST), Refusal)


def test_a_name_too_long_for_a_record_is_refused_in_words() -> None:
    """Docker sets no limit, and whoever names the container by its id has not seen ours."""
    found = extract(container(binding(), name="n" * 256), Wish(ID, 6379, "redis-A"), HOST)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.UNNAMEABLE
    assert "1 to 255 characters, not 256" in found.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STARTED, STARTED_NS),
        ("2026-01-02T03:04:05Z", 1767323045_000000000),
        ("2026-01-02T03:04:05.5Z", 1767323045_500000000),
        ("2026-01-02T04:04:05.000000001+01:00", 1767323045_000000001),
        ("2026-01-02T03:04:05.1234567891Z", 1767323045_123456789),
        ("2026-01-02T03:04:05", 1767323045_000000000),
        (NEVER_STARTED, 0),
        ("", 0),
        ("nonsense", 0),
    ],
)
def test_timestamps_are_read_to_the_nanosecond(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


def test_a_run_is_a_container_and_when_it_started() -> None:
    assert run_of(container()) == Run(ID, STARTED_NS)
    assert run_of({}) == Run("", 0)


@pytest.mark.parametrize(
    "text", [ALL, "::", "127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1"]
)
def test_addresses_without_meaning_elsewhere_are_unreachable(text: str) -> None:
    assert unreachable(parse_ip(text))


@pytest.mark.parametrize("text", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd00::1", "172.17.0.2"])
def test_other_addresses_may_be_reached_unless_they_lie_in_a_bridge(text: str) -> None:
    ip: IPAddress = parse_ip(text)
    assert unreachable(ip) is None
    assert unreachable(ip, [ipaddress.ip_network(ip)])
