"""Containers and networks in, listeners and reasons out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.links import LABEL, parse_links
from ambcore.model import Protocol, parse_ip
from ambcore.networks import Network
from dynproxy import consumers
from dynproxy.consumers import Consumer, Listener, Place, Refusal, Standing, consumer_of, wanted

TCP, UDP = Protocol.TCP, Protocol.UDP
LOCAL = frozenset(map(parse_ip, ("127.0.0.1", "172.17.0.1", "172.18.0.1", "fd00::1")))
NETWORKS = (
    Network("bridge", "bridge", False, (parse_ip("172.17.0.1"),)),
    Network("app", "bridge", False, (parse_ip("172.18.0.1"), parse_ip("fd00::1"))),
    Network("inside", "bridge", True, (parse_ip("172.19.0.1"),)),
    Network("far", "bridge", False, (parse_ip("172.20.0.1"),)),
    Network("swarm", "overlay", False, ()),
    Network("host", "host", False, ()),
    Network("none", "null", False, ()),
)


def consumer(name: str, label: str, *networks: str, created: str = "2026-01-02T03:04:05") -> Consumer:
    return Consumer(f"id-of-{name}", name, created, parse_links(label), networks or ("bridge",))


def inspected(label: str | None = "redis-A:6379", mode: str = "default", *networks: str) -> dict[str, Any]:
    labels = {"other": "x"} | ({} if label is None else {LABEL: label})
    return {
        "Id": "4f" * 32,
        "Name": "/web",
        "Created": "2026-01-02T03:04:05.12Z",
        "Config": {"Labels": labels},
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": {name: {} for name in networks}},
    }


def at(host: str, port: int, protocol: Protocol = TCP) -> Place:
    return host, port, protocol


def test_a_container_with_the_label_is_a_consumer_before_it_runs() -> None:
    found = consumer_of(inspected("redis-A:6379", "app", "web", "app"))
    assert found == Consumer(
        "4f" * 32, "web", "2026-01-02T03:04:05.12", parse_links("redis-A:6379"), ("app", "web"), None
    )


@pytest.mark.parametrize("strange", [{"Id": "a", "Config": None}, {"Id": "a", "Config": {"Labels": None}}, {}])
def test_one_without_the_label_is_none(strange: dict[str, Any]) -> None:
    assert consumer_of(strange) is None
    assert consumer_of(inspected(None)) is None


@pytest.mark.parametrize(
    ("mode", "networks", "meant"),
    [
        ("default", (), ("bridge",)),
        ("app", (), ("app",)),
        ("host", ("host",), ("host",)),
        ("none", ("none",), ("none",)),
        ("bridge", ("bridge", "app"), ("app", "bridge")),
    ],
)
def test_its_networks_are_those_it_has_or_will_have(
    mode: str, networks: tuple[str, ...], meant: tuple[str, ...]
) -> None:
    found = consumer_of(inspected("a:1", mode, *networks))
    assert found is not None
    assert found.networks == meant


@pytest.mark.parametrize(
    ("label", "mode", "why"),
    [
        (
            "a",
            "default",
            "the label ambassador.links: expected SERVICE:PORT or ALIAS=SERVICE:PORT, not 'a'",
        ),
        ("a:1", "container:4f4f", "it shares another container's network: the label belongs on that one"),
    ],
)
def test_a_consumer_that_cannot_be_served_says_why(label: str, mode: str, why: str) -> None:
    found = consumer_of(inspected(label, mode))
    assert found is not None
    assert wanted([found], NETWORKS, LOCAL).refused == (Refusal("web", "", why),)
    assert wanted([found], NETWORKS, LOCAL).listeners == {}


def test_listeners_are_at_every_gateway_of_the_consumers_networks() -> None:
    plan = wanted([consumer("web", "redis-A:6379,dns:53/udp", "app", "bridge")], NETWORKS, LOCAL)
    redis, dns = Listener("redis-A", ("web",)), Listener("dns", ("web",))
    assert plan.listeners == {
        at("172.17.0.1", 6379): redis,
        at("172.18.0.1", 6379): redis,
        at("fd00::1", 6379): redis,
        at("172.17.0.1", 53, UDP): dns,
        at("172.18.0.1", 53, UDP): dns,
        at("fd00::1", 53, UDP): dns,
    }
    assert plan.refused == ()


def test_a_consumer_on_the_hosts_network_is_served_on_loopback() -> None:
    assert wanted([consumer("web", "a:1", "host")], NETWORKS, LOCAL).listeners == {
        at("127.0.0.1", 1): Listener("a", ("web",))
    }


def test_consumers_share_a_listener() -> None:
    both = [consumer("two", "a:1,b:2", created="2026-01-02"), consumer("one", "x=a:1", created="2026-01-01")]
    assert wanted(both, NETWORKS, LOCAL).listeners == {
        at("172.17.0.1", 1): Listener("a", ("one", "two")),
        at("172.17.0.1", 2): Listener("b", ("two",)),
    }


def test_of_two_services_at_one_place_the_older_containers_wins() -> None:
    """Whatever the order in which they are found: a restart of ours must not swap them."""
    old, new = (
        consumer("old", "a:1", created="2026-01-02T03:04:05.1"),
        consumer("new", "b:1,c:2", "app", "bridge", created="2026-01-02T03:04:05.12"),
    )
    for order in ([old, new], [new, old]):
        plan = wanted(order, NETWORKS, LOCAL)
        assert plan.listeners[at("172.17.0.1", 1)] == Listener("a", ("old",))
        assert plan.listeners[at("172.18.0.1", 1)] == Listener("b", ("new",))
        assert plan.listeners[at("172.17.0.1", 2)] == Listener("c", ("new",))
        assert plan.refused == (Refusal("new", "b:1", "172.17.0.1:1 is where a is, for old, which is older"),)


@pytest.mark.parametrize("host", [None, "172.17.0.1", "0.0.0.0", "::"])  # noqa: S104
def test_a_front_of_the_command_line_stays_and_serves_its_own_service(host: str | None) -> None:
    plan = wanted([consumer("web", "a:1,c:2"), consumer("x", "b:1")], NETWORKS, LOCAL, [Standing("a", 1, host)])
    assert plan.listeners == {
        at("172.17.0.1", 1): Listener("a", ("web",), standing=True),
        at("172.17.0.1", 2): Listener("c", ("web",)),
    }
    assert plan.refused == (Refusal("x", "b:1", "172.17.0.1:1 is where a is, for the command line"),)


@pytest.mark.parametrize("front", [Standing("a", 1, "127.0.0.1"), Standing("a", 2)])
def test_a_front_elsewhere_is_in_nobodys_way(front: Standing) -> None:
    plan = wanted([consumer("web", "b:1")], NETWORKS, LOCAL, [front])
    assert plan.listeners == {at("172.17.0.1", 1): Listener("b", ("web",))}


@pytest.mark.parametrize(
    ("networks", "why"),
    [
        (["inside"], "network inside is internal: its containers are to reach nothing outside"),
        (
            ["far"],
            "172.20.0.1, the gateway of network far, is no address of ours: run dynproxy with --network host",
        ),
        (["swarm"], "network swarm (overlay) has no gateway"),
        (["none"], "network none (null) has no gateway"),
        (["gone"], "there is no network gone"),
        (["gone", "none"], "there is no network gone; network none (null) has no gateway"),
    ],
)
def test_a_consumer_that_cannot_reach_us_says_why(networks: list[str], why: str) -> None:
    plan = wanted([consumer("web", "a:1", *networks)], NETWORKS, LOCAL)
    assert plan.listeners == {}
    assert plan.refused == (Refusal("web", "", why),)


def test_one_way_in_is_enough() -> None:
    plan = wanted([consumer("web", "a:1", "bridge", "inside")], NETWORKS, LOCAL)
    assert list(plan.listeners) == [at("172.17.0.1", 1)]
    assert plan.refused == ()


def test_from_a_container_of_ours_no_consumer_can_be_reached() -> None:
    """Not even those on the host's network: our loopback is not theirs."""
    each = [consumer("web", "a:1"), consumer("x", "a:1", "host")]
    plan = wanted(each, NETWORKS, [parse_ip("127.0.0.1"), parse_ip("172.17.0.5")])
    assert plan.listeners == {}
    assert [refusal.why.rpartition(": ")[2] for refusal in plan.refused] == ["run dynproxy with --network host"] * 2


def test_there_is_a_limit_for_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "MAX_LISTENERS", 2)
    plan = wanted([consumer("one", "a:1,b:2,c:3"), consumer("two", "a:1")], NETWORKS, LOCAL)
    assert plan.listeners == {
        at("172.17.0.1", 1): Listener("a", ("one", "two")),
        at("172.17.0.1", 2): Listener("b", ("one",)),
    }
    assert plan.refused == (Refusal("one", "c:3", "more than 2 listeners are wanted"),)


few = st.sampled_from(["a:1", "b:1", "a:2,b:3", "x=b:2", "a:1/udp"])
some = st.lists(
    st.builds(
        consumer,
        st.sampled_from(["one", "two", "three"]),
        few,
        st.sampled_from(["bridge", "app", "inside", "host"]),
        created=st.sampled_from(["1", "2"]),
    ),
    max_size=6,
    unique_by=lambda each: each.id,
)


@given(some, st.randoms(use_true_random=False))
def test_every_wish_is_served_or_refused_whatever_the_order(each: list[Consumer], chance: Any) -> None:
    plan = wanted(each, NETWORKS, LOCAL)
    shuffled = list(each)
    chance.shuffle(shuffled)
    assert wanted(shuffled, NETWORKS, LOCAL) == plan
    refused = {(refusal.consumer, refusal.link) for refusal in plan.refused}
    for one in each:
        for link in one.links:
            places = [
                place for place, it in plan.listeners.items() if one.name in it.consumers and place[1] == link.port
            ]
            served = any(plan.listeners[place].service == link.service for place in places)
            assert served or (one.name, str(link)) in refused or (one.name, "") in refused
