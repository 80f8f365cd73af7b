"""What inspecting a container says of its ports and of where they are answered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.model import Address, IPAddress, Protocol, parse_ip
from dynproxy.exposed import Door, Exposed, Here, assigned, doors_of, exposed, instances_of, service_of

ID, STARTED = "4f" * 32, "2026-01-02T03:04:05.123456789Z"
TCP, UDP = Protocol.TCP, Protocol.UDP
REDIS, DNS = (6379, TCP), (53, UDP)


def ips(*texts: str) -> frozenset[IPAddress]:
    return frozenset(map(parse_ip, texts))


HERE = Here(ips("127.0.0.1", "172.18.0.9", "fd00:18::9"), ips("127.0.0.1", "172.18.0.9", "fd00:18::9"))


def network(address: str = "", ipv6: str = "") -> dict[str, Any]:
    return {
        "IPAddress": address,
        "IPPrefixLen": 16 if address else 0,
        "GlobalIPv6Address": ipv6,
        "GlobalIPv6PrefixLen": 64 if ipv6 else 0,
    }


def container(mode: str = "default", state: dict[str, Any] | None = None, **networks: dict[str, Any]) -> dict[str, Any]:
    """A running container that exposes 6379/tcp, on these networks (default: the bridge at 172.17.0.2)."""
    return {
        "Id": ID,
        "Name": "/redis",
        "State": {"Status": "running", "Running": True, "Paused": False, "StartedAt": STARTED, **(state or {})},
        "Config": {"ExposedPorts": {"6379/tcp": {}}},
        "HostConfig": {"NetworkMode": mode, "PortBindings": {}},
        "NetworkSettings": {"Ports": {"6379/tcp": None}, "Networks": networks or {"bridge": network("172.17.0.2")}},
    }


def found(inspected: dict[str, Any], here: Here = HERE) -> Exposed:
    item = exposed(inspected, "redis", here)
    assert item is not None
    return item


def test_a_running_container_is_at_its_own_address() -> None:
    assert found(container()) == Exposed(ID, "redis", STARTED, (REDIS,), parse_ip("172.17.0.2"))


@pytest.mark.parametrize("wanted", ["redis", ID, ID[:12], ID[:20]])
def test_a_container_is_known_by_its_name_and_by_its_id(wanted: str) -> None:
    assert exposed(container(), wanted, HERE)


@pytest.mark.parametrize("wanted", ["red", "redis2", ID[:4], "4f4f4f"])
def test_the_beginning_of_anothers_id_is_nobody(wanted: str) -> None:
    """The API answers to it: a container called `cafe` must not become the one whose id begins so."""
    assert exposed(container(), wanted, HERE) is None
    assert exposed(None, wanted, HERE) is None


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        ({"bridge": network("172.17.0.2")}, "172.17.0.2"),
        ({"app": network("172.20.0.2"), "bridge": network("172.17.0.2")}, "172.17.0.2"),
        ({"app": network("172.20.0.2"), "ours": network("172.18.0.2"), "bridge": network("172.17.0.2")}, "172.18.0.2"),
        ({"app": network("172.20.0.2"), "db": network("172.21.0.2")}, "172.20.0.2"),
        ({"bridge": network("172.17.0.2", "fd00::2")}, "172.17.0.2"),
        ({"v6": network("", "fd00:18::2")}, "fd00:18::2"),
        ({"bridge": network("172.17.0.2"), "ours": network("", "fd00:18::2")}, "fd00:18::2"),
        ({"down": network(), "app": network("172.20.0.2")}, "172.20.0.2"),
        ({"odd": {"IPAddress": "not an address", "IPPrefixLen": 16}, "app": network("172.20.0.2")}, "172.20.0.2"),
        ({"none": None, "app": {"IPAddress": "172.20.0.2"}}, "172.20.0.2"),
    ],
)
def test_pain_9_the_network_that_we_share_comes_first_then_the_default_one(
    networks: dict[str, Any], address: str
) -> None:
    assert str(found(container(**networks)).address) == address


@pytest.mark.parametrize(
    ("inspected", "why"),
    [
        (container(state={"Status": "exited", "Running": False}), "it is exited"),
        (container(state={"Status": "created", "Running": False}), "it is created"),
        (container(state={"Status": "restarting", "Running": True, "Restarting": True}), "it is restarting"),
        (container(state={"Status": "paused", "Paused": True}), "it is paused"),
        (container(state={"Health": {"Status": "starting"}}), "it has not passed its health check yet"),
        (container(state={"Health": {"Status": "unhealthy"}}), "it fails its health check"),
        (container("bridge", bridge=network()), "it has no address"),
        (container("none", none=network()), "it has no address"),
        (
            container("container:4f4f", x=network()),
            "it shares the network of 4f4f: name that container instead",
        ),
    ],
)
def test_pain_18_whoever_cannot_serve_keeps_its_ports_and_gets_nobody(inspected: dict[str, Any], why: str) -> None:
    item = found(inspected)
    assert (item.address, item.why, item.doors) == (None, why, (REDIS,))


@pytest.mark.parametrize("health", [None, {}, {"Status": "none"}, {"Status": "healthy"}])
def test_pain_18_no_health_check_means_healthy(health: dict[str, Any] | None) -> None:
    assert found(container(state={"Health": health})).address is not None


def test_a_container_on_the_hosts_network_is_where_the_host_is() -> None:
    here = Here(HERE.addresses, HERE.listening, parse_ip("172.17.0.1"))
    assert str(found(container("host", host=network()), here).address) == "172.17.0.1"
    assert found(container("host", host=network())).address is None


@pytest.mark.parametrize(
    "inspected",
    [container("host", host=network()), container(x=network("127.0.0.1")), container(x=network("172.18.0.9"))],
)
def test_what_would_be_our_own_listener_is_not_served(inspected: dict[str, Any]) -> None:
    """It would be a loop, or take its port away from the container itself."""
    item = found(inspected, Here(HERE.addresses, HERE.listening, parse_ip("127.0.0.1")))
    assert (item.address, item.doors) == (None, ())


def test_every_tcp_and_udp_port_counts_published_or_not() -> None:
    inspected = container()
    inspected["Config"]["ExposedPorts"] = {"6379/tcp": {}, "53/udp": {}, "9/sctp": {}, "x/tcp": {}}
    inspected["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostPort": "8080"}]}
    inspected["NetworkSettings"]["Ports"] = {"53/tcp": [{"HostPort": "53"}], "6379/tcp": None}
    assert doors_of(inspected) == ((53, TCP), (53, UDP), (80, TCP), (6379, TCP))
    assert found({**inspected, "Config": {}, "HostConfig": {}, "NetworkSettings": {}}).why


@given(st.fixed_dictionaries({"IPAddress": st.text(max_size=8), "IPPrefixLen": st.integers(-3, 200)}))
def test_an_address_that_nobody_can_read_is_none(odd: dict[str, Any]) -> None:
    item = found(container(odd=odd))
    assert item.address is None or str(item.address) == str(parse_ip(odd["IPAddress"]))


def item(*doors: Door, address: str | None = "172.17.0.2") -> Exposed:
    return Exposed(ID, "x", STARTED, doors, None if address is None else parse_ip(address))


def test_of_two_that_want_a_port_the_one_named_first_has_it() -> None:
    seen = {"b": item(REDIS), "a": item(REDIS, DNS)}
    assert assigned({}, ["a", "b"], seen) == {REDIS: "a", DNS: "a"}
    assert assigned({}, ["b", "a"], seen) == {REDIS: "b", DNS: "a"}


def test_whoever_holds_a_port_keeps_it_until_it_exists_without() -> None:
    """Removal keeps it, since the container may come back; coming back without the port gives it up."""
    held = {REDIS: "b"}
    names = ["a", "b"]
    assert assigned(held, names, {"a": item(REDIS), "b": None}) == {REDIS: "b"}
    assert assigned(held, names, {"a": item(REDIS)}) == {REDIS: "b"}
    assert assigned(held, names, {"a": item(REDIS), "b": item(REDIS, address=None)}) == {REDIS: "b"}
    assert assigned(held, names, {"a": item(REDIS), "b": item(DNS)}) == {REDIS: "a", DNS: "b"}
    assert assigned(held, names, {"a": None, "b": item()}) == {}


def test_a_port_number_is_a_service_with_an_instance_for_each_protocol() -> None:
    both = item((53, TCP), DNS, REDIS)
    assert service_of("dns", DNS) == "dns:53"
    instances = instances_of("dns", 53, both.doors, both)
    assert [(each.service, each.id, each.address, each.protocol) for each in instances] == [
        ("dns:53", "dns", Address("172.17.0.2", 53), TCP),
        ("dns:53", "dns:udp", Address("172.17.0.2", 53), UDP),
    ]
    assert [each.protocol for each in instances_of("dns", 53, [DNS], both)] == [UDP]
    assert instances_of("dns", 53, both.doors, None) == ()
    assert instances_of("dns", 53, both.doors, item(DNS, address=None)) == ()


def test_another_life_of_a_container_is_another_instance() -> None:
    first = item(REDIS)
    second = Exposed(first.id, first.name, "2026-01-02T03:04:06Z", first.doors, first.address)
    assert instances_of("x", 6379, [REDIS], first) != instances_of("x", 6379, [REDIS], second)
