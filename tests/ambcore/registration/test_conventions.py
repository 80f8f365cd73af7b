"""Which instances a container has, what they are called and where they are: registrator's rules, and users' pains."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.model import Protocol, parse_ip
from ambcore.registration.conventions import Conventions, Findings, find, image_name
from ambcore.registration.explain import explain_container
from ambcore.registration.extract import Host, Reason
from tests.support.inspections import ALL, ID, binding, container, stopped

HERE = "10.1.2.3"
HOST = Host(advertise=parse_ip(HERE), docker0=(ipaddress.ip_network("172.17.0.0/16"),))
PLAIN = Conventions("here")
EVERYWHERE = (binding(ALL, 49155), binding("::", 49155))  # what a current engine says of `-p 49155:80`


def one(
    ports: Mapping[str, Iterable[dict[str, str]] | None],
    *,
    image: str = "registry:5000/team/redis:7",
    env: list[str] | None = None,
    labels: dict[str, str] | None = None,
    networks: dict[str, Any] | None = None,
    exposed: Iterable[str] | None = None,
    mode: str = "default",
    **host_config: Any,
) -> dict[str, Any]:
    """A running container `web` with these ports as the API tells them: None is exposed and not published."""
    found = container(name="web", host_config={"NetworkMode": mode, **host_config})
    found["Config"] |= {"Image": image, "Env": env or [], "Labels": labels or {}}
    found["Config"]["ExposedPorts"] = {name: {} for name in (ports if exposed is None else exposed)}
    found["NetworkSettings"]["Ports"] = {name: list(each) if each else None for name, each in ports.items()}
    found["NetworkSettings"]["Networks"] = networks or {}
    return found


def names(found: Findings) -> list[str]:
    return [f"{instance.service}/{instance.id}" for instance in found.instances]


def places(found: Findings) -> list[str]:
    return [str(instance.address) for instance in found.instances]


def reasons(found: Findings) -> list[Reason]:
    return [refusal.reason for refusal in found.refusals]


def test_one_published_port_is_an_instance_of_its_image() -> None:
    found = find(one({"6379/tcp": EVERYWHERE}), PLAIN, HOST)
    (instance,) = found.instances
    assert names(found) == ["redis/here:web:6379"]
    assert (places(found), instance.protocol, instance.container) == ([f"{HERE}:49155"], Protocol.TCP, ID)
    assert not found.refusals


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis", "redis"),
        ("redis:7", "redis"),
        ("progrium/consul:latest", "consul"),
        ("registry:5000/team/redis", "redis"),
        ("registry:5000/team/redis:7@sha256:0815", "redis"),
        ("redis@sha256:0815", "redis"),
        ("sha256:0815", ""),
        ("", ""),
    ],
)
def test_a_service_is_called_like_its_image_without_registry_tag_and_digest(image: str, name: str) -> None:
    assert image_name(image) == name


def test_an_image_without_a_name_needs_a_service_name() -> None:
    inspected = one({"80/tcp": EVERYWHERE}, image="sha256:0815")
    assert reasons(find(inspected, PLAIN, HOST)) == [Reason.UNNAMEABLE]
    inspected["Config"]["Env"] = ["SERVICE_NAME=web"]
    assert names(find(inspected, PLAIN, HOST)) == ["web/here:web:80"]


def test_udp_is_marked_in_id_tags_and_protocol() -> None:
    found = find(one({"53/tcp": [binding()], "53/udp": [binding()]}, image="dns"), PLAIN, HOST)
    assert names(found) == ["dns-53/here:web:53", "dns-53/here:web:53:udp"]
    assert [instance.protocol for instance in found.instances] == [Protocol.TCP, Protocol.UDP]
    assert [instance.tags for instance in found.instances] == [(), ("udp",)]


def test_pain_20_only_ports_that_will_be_registered_make_a_name_longer() -> None:
    several = {"80/tcp": EVERYWHERE, "443/tcp": EVERYWHERE, "9000/tcp": None}
    assert names(find(one(several), PLAIN, HOST)) == ["redis-80/here:web:80", "redis-443/here:web:443"]
    for variable in ("SERVICE_443_IGNORE=true", "SERVICE_443_IGNORE=false"):
        assert names(find(one(several, env=[variable]), PLAIN, HOST)) == ["redis/here:web:80"]
    on_loopback = {**several, "443/tcp": [binding("127.0.0.1")]}
    found = find(one(on_loopback), PLAIN, HOST)
    assert (names(found), reasons(found)) == (["redis/here:web:80"], [Reason.UNREACHABLE])


def test_pain_20_a_name_for_the_port_is_never_made_longer() -> None:
    several = {"80/tcp": EVERYWHERE, "443/tcp": EVERYWHERE}
    found = find(one(several, env=["SERVICE_80_NAME=api", "SERVICE_NAME=web"]), PLAIN, HOST)
    assert names(found) == ["api/here:web:80", "web-443/here:web:443"]


def test_a_port_that_is_about_to_be_mapped_counts_lest_its_siblings_name_changes_with_it() -> None:
    wanted: dict[str, Any] = {"80/tcp": [{}], "443/tcp": [{}]}
    found = find(one({"80/tcp": EVERYWHERE}, exposed=wanted, PortBindings=wanted), PLAIN, HOST)
    assert (names(found), reasons(found)) == (["redis-80/here:web:80"], [Reason.PORT_PENDING])


def test_pain_19_explicit_registers_only_what_has_a_name() -> None:
    explicit = Conventions("here", explicit=True)
    several = {"80/tcp": EVERYWHERE, "443/tcp": EVERYWHERE}
    assert reasons(find(one(several), explicit, HOST)) == [Reason.UNNAMED] * 2
    assert names(find(one(several, env=["SERVICE_80_NAME=api"]), explicit, HOST)) == ["api/here:web:80"]
    both = find(one(several, labels={"SERVICE_NAME": "api"}), explicit, HOST)
    assert names(both) == ["api-80/here:web:80", "api-443/here:web:443"]


def test_pain_19_a_container_or_a_port_can_be_ignored() -> None:
    assert reasons(find(one({"80/tcp": EVERYWHERE}, labels={"SERVICE_IGNORE": "1"}), PLAIN, HOST)) == [Reason.IGNORED]
    one_port = one({"80/tcp": EVERYWHERE, "443/tcp": EVERYWHERE}, env=["SERVICE_80_IGNORE=1"])
    assert names(find(one_port, PLAIN, HOST)) == ["redis/here:web:443"]


def test_tags_of_the_operator_follow_the_containers() -> None:
    found = find(one({"53/udp": EVERYWHERE}, env=["SERVICE_TAGS=a,b"]), Conventions("here", tags=("b", "z")), HOST)
    assert found.instances[0].tags == ("a", "b", "z", "udp")


def test_other_metadata_are_attributes() -> None:
    found = find(one({"80/tcp": EVERYWHERE}, env=["SERVICE_REGION=us", "SERVICE_80_REGION=eu"]), PLAIN, HOST)
    assert found.instances[0].attributes == (("region", "eu"),)


def test_service_id_replaces_the_id_and_stays_one_for_one_port() -> None:
    def with_id(*ports: str) -> Findings:
        return find(one(dict.fromkeys(ports, EVERYWHERE), env=["SERVICE_ID=mine", "SERVICE_NAME=s"]), PLAIN, HOST)

    assert names(with_id("80/tcp")) == ["s/mine"]
    assert names(with_id("53/udp")) == ["s/mine"]
    assert names(with_id("53/tcp", "53/udp")) == ["s-53/mine", "s-53/mine:udp"]
    clash = find(
        one(
            dict.fromkeys(("80/tcp", "81/tcp"), EVERYWHERE),
            env=["SERVICE_ID=mine", "SERVICE_80_NAME=s", "SERVICE_81_NAME=s"],
        ),
        PLAIN,
        HOST,
    )
    assert (names(clash), reasons(clash)) == (["s/mine"], [Reason.DUPLICATE])


def test_pain_29_both_families_of_one_binding_are_one_instance_and_a_v6_only_host_has_brackets() -> None:
    assert places(find(one({"80/tcp": EVERYWHERE}), PLAIN, HOST)) == [f"{HERE}:49155"]
    six = Host(advertise=parse_ip("2001:db8::7"))
    assert places(find(one({"80/tcp": EVERYWHERE}), PLAIN, six)) == ["[2001:db8::7]:49155"]
    assert names(find(one({"80/tcp": EVERYWHERE}), PLAIN, six)) == ["redis/here:web:80"]
    found = find(one({"80/tcp": [binding("2001:db8::7", 80), binding("192.0.2.7", 80)]}), PLAIN, HOST)
    assert places(found) == ["192.0.2.7:80", "[2001:db8::7]:80"]


def test_each_address_of_a_port_is_an_instance_with_an_id_of_its_own() -> None:
    several = [binding("192.0.2.9", 8081), binding(ALL, 80), binding("192.0.2.9", 8080)]
    found = find(one({"53/udp": several}, image="dns"), PLAIN, HOST)
    assert places(found) == [f"{HERE}:80", "192.0.2.9:8080", "192.0.2.9:8081"]
    assert names(found) == [
        "dns/here:web:53:udp",
        "dns/here:web:53:192.0.2.9:8080:udp",
        "dns/here:web:53:192.0.2.9:8081:udp",
    ]
    assert find(one({"53/udp": several[::-1]}, image="dns"), PLAIN, HOST) == found


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.1.1", "::1", "169.254.3.4", "fe80::1", "172.17.0.1"])
def test_pain_10_no_loopback_link_local_or_docker0_address_is_told(ip: str) -> None:
    found = find(one({"80/tcp": [binding(ip)]}), PLAIN, HOST)
    assert (places(found), reasons(found)) == ([], [Reason.UNREACHABLE])
    assert "publish it on an address of this host" in found.refusals[0].text
    by_route = Host(route=parse_ip("172.17.0.1"), bridges=HOST.docker0)
    assert reasons(find(one({"80/tcp": EVERYWHERE}), PLAIN, by_route)) == [Reason.UNREACHABLE]


def in_networks(*networks: str, label: str | None = None) -> dict[str, Any]:
    addresses = {"front": "10.20.0.5", "back": "10.30.0.5", "six": "", "late": ""}
    found = {name: {"IPAddress": addresses[name], "GlobalIPv6Address": ""} for name in networks}
    if "six" in found:
        found["six"]["GlobalIPv6Address"] = "2001:db8::5"
    labels = {"ambassador.network": label} if label else {}
    return one({"80/tcp": EVERYWHERE, "9000/tcp": None}, networks=found, labels=labels, mode=networks[0])


def test_pain_9_a_port_published_from_a_network_of_its_own_is_at_the_hosts_address() -> None:
    assert places(find(in_networks("front", "back"), PLAIN, HOST)) == [f"{HERE}:49155"]


def test_pain_9_internal_tells_exposed_ports_at_the_containers_address_in_the_chosen_network() -> None:
    internal, back = Conventions("here", internal=True), Conventions("here", internal=True, network="back")
    assert places(find(in_networks("front"), internal, HOST)) == ["10.20.0.5:80", "10.20.0.5:9000"]
    assert places(find(in_networks("front", "back"), back, HOST)) == ["10.30.0.5:80", "10.30.0.5:9000"]
    by_label = find(in_networks("front", "back", label="front"), back, HOST)
    assert places(by_label) == ["10.20.0.5:80", "10.20.0.5:9000"]
    assert names(by_label) == ["redis-80/here:web:80", "redis-9000/here:web:9000"]
    assert places(find(in_networks("six"), internal, HOST)) == ["[2001:db8::5]:80", "[2001:db8::5]:9000"]


def test_pain_8_and_9_without_a_choice_or_an_address_nothing_is_told() -> None:
    internal = Conventions("here", internal=True)
    for inspected in (in_networks("front", "back"), in_networks("late"), in_networks("front", label="none")):
        found = find(inspected, internal, HOST)
        assert (places(found), set(reasons(found))) == ([], {Reason.NETWORK})
    assert "ambassador.network" in find(in_networks("front", "back"), internal, HOST).refusals[0].text


def test_a_container_in_the_hosts_own_network_has_its_exposed_ports_at_the_hosts_address() -> None:
    inspected = one({}, exposed=["8080/tcp"], mode="host", networks={"host": {"IPAddress": ""}})
    for conventions in (PLAIN, Conventions("here", internal=True)):
        assert places(find(inspected, conventions, HOST)) == [f"{HERE}:8080"]


@pytest.mark.parametrize("state", ["starting", "unhealthy"])
def test_pain_18_one_that_is_not_healthy_is_not_registered(state: str) -> None:
    inspected = one({"80/tcp": EVERYWHERE})
    inspected["State"]["Health"] = {"Status": state}
    assert find(inspected, PLAIN, HOST).instances == ()
    inspected["State"]["Health"] = {"Status": "healthy"}
    assert names(find(inspected, PLAIN, HOST)) == ["redis/here:web:80"]


def test_one_that_does_not_run_or_publishes_nothing_says_so() -> None:
    assert reasons(find(stopped(), PLAIN, HOST)) == [Reason.NOT_RUNNING]
    assert reasons(find(one({"80/tcp": None}), PLAIN, HOST)) == [Reason.NOT_PUBLISHED]
    assert reasons(find(one({"80/sctp": EVERYWHERE}), PLAIN, HOST)) == [Reason.NOT_PUBLISHED]
    beside = find(one({}, exposed=["80/tcp"], mode="container:4f"), PLAIN, HOST)
    assert beside.refusals[0].text == "web publishes no port (its network is that of container:4f)"


@pytest.mark.parametrize("odd", ["000080/tcp", "0/tcp", "65536/tcp", "/tcp", "\u0661/tcp", f"{'9' * 5000}/tcp"])
def test_a_port_whose_number_nobody_would_write_is_left_out_and_its_sibling_is_told(odd: str) -> None:
    """A daemon would not say so, but who stands in for one may: it must not cost the container, nor the host."""
    for conventions, inspected in (
        (PLAIN, one({"443/tcp": EVERYWHERE})),
        (PLAIN, one({}, exposed=["443/tcp"], mode="host")),
        (Conventions("here", internal=True), in_networks("front")),
    ):
        before = find(inspected, conventions, HOST)
        assert before.instances
        inspected["Config"]["ExposedPorts"][odd] = {}
        inspected["NetworkSettings"]["Ports"][odd] = list(EVERYWHERE)
        assert find(inspected, conventions, HOST) == before
        assert explain_container(inspected, conventions, HOST)


@pytest.mark.parametrize("variable", ["SERVICE_NAME=a/b", "SERVICE_X=a\nb", f"SERVICE_X={'x' * 2000}"])
def test_what_readers_would_refuse_is_not_written(variable: str) -> None:
    found = find(one({"80/tcp": EVERYWHERE}, env=[variable]), PLAIN, HOST)
    assert (names(found), reasons(found)) == ([], [Reason.UNNAMEABLE])


addresses = st.sampled_from(["", ALL, "::", "127.0.0.1", "192.0.2.9", "2001:db8::9", "172.17.0.1", "fe80::1", "bad"])
bindings = st.lists(st.builds(binding, addresses, st.integers(1, 65535)), max_size=4)
ports = st.dictionaries(st.sampled_from(["80/tcp", "443/tcp", "53/tcp", "53/udp", "9/sctp", "x"]), bindings)
keys = ["NAME=a", "80_NAME=a", "53_NAME=a", "ID=i", "53_ID=i", "80_IGNORE=1"]
metadata = st.lists(st.sampled_from(keys).map("SERVICE_".__add__))


@given(ports, metadata, st.booleans(), st.booleans())
def test_keys_are_unique_addresses_reachable_and_every_port_accounted_for(
    published: dict[str, list[dict[str, str]]], variables: list[str], explicit: bool, internal: bool
) -> None:
    networks = {"front": {"IPAddress": "10.20.0.5"}}
    inspected = one(dict(published), env=variables, networks=networks)
    found = find(inspected, Conventions("here", explicit=explicit, internal=internal), HOST)
    assert len(set(names(found))) == len(found.instances)
    own = parse_ip("10.20.0.5")
    for instance in found.instances:
        assert (instance.address.ip == own) == internal
        assert not instance.address.ip.is_loopback
        assert instance.address.ip not in HOST.docker0[0]
        if not internal:
            assert instance.address.port in {int(each["HostPort"]) for some in published.values() for each in some}
    assert found.instances or found.refusals
