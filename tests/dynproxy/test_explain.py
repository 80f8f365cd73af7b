"""What a proxy says when it is asked for a name, from its status document."""

from __future__ import annotations

from typing import Any

import pytest

from ambcore.findings import Finding, Level
from dynproxy.explain import explain


def item(name: str = "one", **more: Any) -> dict[str, Any]:
    """An instance as the status document has it."""
    check = {"state": "up", "seconds": 0.0012, "why": ""}
    usual = {"id": name, "address": "10.1.2.3:80", "state": "up", "refusing": False, "check": check, "drained": None}
    return {**usual, "connections": 2, "connect_failures": 0, **more}


def status(*instances: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A document with one service, `web`; None for instances that are not known."""
    service = {
        "name": "web",
        "ports": [80],
        "plane": "relay",
        "plane_why": "chosen",
        "watch": "watching",
        "parked": 0,
        "revision": 7,
        "view_age": 0.25,
        "error": None,
        "refused": [],
        "instances": None if None in instances else list(instances),
        **more,
    }
    plane = {"kernel": None}
    return {"plane": plane, "etcd": {"last_error": None}, "docker": None, "services": [service]}


def last(name: str, document: dict[str, Any], topic: str) -> Finding:
    return [step for step in explain(name, document) if step.topic == topic][-1]


@pytest.mark.parametrize("name", ["web", "web/one", "one"])
def test_what_is_well_is_told_from_the_listener_to_the_instance(name: str) -> None:
    told = explain(name, status(item()))
    assert [(step.level, step.topic, step.says) for step in told] == [
        (Level.GREEN, "proxy", "listens on port 80 for web, carried by the relay: chosen"),
        (Level.GREEN, "view", "sees web as it is, complete up to revision 7; proven 0.2 s ago"),
        (Level.GREEN, "instance", "one at 10.1.2.3:80 answers in 1.2 ms; 2 open"),
    ]


@pytest.mark.parametrize("name", ["we", "two", "other/one", "webs"])
def test_of_another_name_nothing_is_told(name: str) -> None:
    assert explain(name, status(item())) == ()


@pytest.mark.parametrize(
    ("more", "level", "says"),
    [
        ({"view_age": 34.0}, Level.AMBER, "what it knows of web was last proven current 34 s ago: etcd is silent"),
        (
            {"watch": "broken", "view_age": 5.0, "error": "cut off"},
            Level.AMBER,
            "what it knows of web is 5.0 s old, changes since are not seen: cut off",
        ),
        (
            {"instances": None, "watch": "listing", "view_age": None, "error": "denied"},
            Level.RED,
            "has not heard yet who serves web, its clients wait: denied",
        ),
    ],
)
def test_a_view_that_is_old_or_none_says_how_old_and_why(more: dict[str, Any], level: Level, says: str) -> None:
    told = last("web", status(item(), **more), "view")
    assert (told.level, told.says) == (level, says)


@pytest.mark.parametrize(
    ("more", "level", "says"),
    [
        (
            {"state": "ejected", "check": {"state": "down", "seconds": 0.4, "why": "silent"}, "connect_failures": 3},
            Level.RED,
            "one at 10.1.2.3:80 does not answer checks: silent; 3 connects to it failed",
        ),
        (
            {"state": "ejected", "refusing": True},
            Level.RED,
            "one at 10.1.2.3:80 refused a client within the last seconds",
        ),
        (
            {"state": "ejected", "check": None, "connect_failures": 1},
            Level.RED,
            "one at 10.1.2.3:80 is passed over, as connects to it failed; 1 connect to it failed",
        ),
        (
            {"check": {"state": "suspect", "seconds": 0.4, "why": "refused"}},
            Level.AMBER,
            "one at 10.1.2.3:80 failed its last check: refused",
        ),
        (
            {"check": {"state": "up", "seconds": 0.001, "why": "refused"}},
            Level.GREEN,
            "one at 10.1.2.3:80 answers in 1.0 ms; 2 open; its last failure was: refused",
        ),
        ({"check": None}, Level.GREEN, "one at 10.1.2.3:80 is not checked; 2 open"),
        (
            {"state": "draining"},
            Level.AMBER,
            "one at 10.1.2.3:80 gets no new connections: its record says that it drains; 2 open",
        ),
        (
            {"state": "draining", "drained": {"by": "eve", "since": "today", "why": "disk", "host": "h"}},
            Level.AMBER,
            "one at 10.1.2.3:80 gets no new connections: all of host h is drained by eve since today: disk; 2 open",
        ),
    ],
)
def test_an_instance_says_how_it_fares(more: dict[str, Any], level: Level, says: str) -> None:
    told = last("one", status(item(**more)), "instance")
    assert (told.level, told.says) == (level, says)


def test_an_instance_that_is_not_seen_is_red_and_one_that_was_refused_says_why() -> None:
    told = last("web/two", status(item()), "instance")
    assert (told.level, told.says) == (Level.RED, "does not see web/two; it knows 1 other instance")
    refused = [{"key": "/services/web/two", "why": "address_denied: 10.9.9.9:1 is outside --instances-in"}]
    for name in ("web/two", "two", "web"):
        record = last(name, status(item(), refused=refused), "record")
        assert record.level is Level.RED
        assert "refuses /services/web/two: address_denied" in record.says
        assert "--instances-in" in record.do
    assert not [step for step in explain("web/one", status(item(), refused=refused)) if step.topic == "record"]


def test_of_many_instances_only_those_that_are_not_well_are_told_one_by_one() -> None:
    many = [item(f"i{number}", state="draining" if number < 3 else "up") for number in range(40)]
    told = [step for step in explain("web", status(*many)) if step.topic.startswith("instance")]
    assert told[0].says == "40 instances: 3 draining, 37 up"
    assert [step.level for step in told[1:]] == [Level.AMBER] * 3
    told = list(explain("web", status(*[item(f"i{number}", state="draining") for number in range(40)])))
    assert len([step for step in told if step.topic == "instance"]) == 20
    assert "20 more are not well" in [step.says for step in told]


@pytest.mark.parametrize(
    ("instances", "parked", "says"),
    [
        ((), 0, "knows no instance of web: new clients wait for one, then are closed"),
        ((), 4, "knows no instance of web: new clients wait for one, then are closed; 4 wait now"),
        ((item(state="draining"),), 0, "every instance of web drains: nobody takes new connections"),
        ((item(),), 3, "3 clients of web wait for an instance that answers"),
    ],
)
def test_clients_that_find_nobody_are_red(instances: tuple[dict[str, Any], ...], parked: int, says: str) -> None:
    told = last("web", status(*instances, parked=parked), "clients")
    assert (told.level, told.says) == (Level.RED, says)


def test_the_kernels_complaint_is_told() -> None:
    document = status(item())
    document["plane"] = {"kernel": {"error": "EBUSY"}}
    assert last("web", document, "plane").says == "the kernel's rules could not be changed: EBUSY"


def test_a_container_that_the_proxy_stands_for_is_told_by_its_name() -> None:
    document = status(item())
    here = {"name": "db", "exists": True, "address": "172.18.0.2", "why": "", "ports": ["6379/tcp"]}
    document["docker"] = {
        "containers": [here, {"name": "gone", "exists": False}, {**here, "name": "ill", "why": "ill"}]
    }
    assert last("db", document, "container").level is Level.GREEN
    assert last("gone", document, "container").says == "no container is called gone; its clients wait"
    assert last("ill", document, "container").says == "ill gets no clients: ill"
