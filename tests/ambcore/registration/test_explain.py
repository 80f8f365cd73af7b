"""Each decision on a container in its order: what is green is decided as `extract` and `find` decide it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.admission import parse_networks
from ambcore.findings import Finding, Level
from ambcore.model import Instance, parse_ip
from ambcore.registration.conventions import Conventions, find
from ambcore.registration.essence import essence
from ambcore.registration.explain import explain_container, explain_wish, in_brief
from ambcore.registration.extract import Host, Wish, extract
from tests.support.inspections import binding, container, stopped

HOST = Host(parse_ip("10.1.2.3"), docker0=parse_networks("172.17.0.0/16"))
HERE = Conventions("here")
WISH = Wish("redis-demo", 6379, "redis-A")


def named(*labels: str, env: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A container of the image `redis` that publishes a port on all addresses, with these labels and variables."""
    pairs = dict(label.split("=", 1) for label in labels)
    config = {"Image": "redis:7", "Labels": pairs, "Env": list(env)}
    return container(binding(), config=config, **more)


def reds(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{step.topic}: {step.says}" for step in findings if step.level is Level.RED]


def said(findings: tuple[Finding, ...], topic: str) -> str:
    return next(step.says for step in findings if step.topic == topic)


# One container


def test_the_one_container_is_told_from_its_state_to_its_address() -> None:
    told = explain_wish(container(binding(), binding("172.17.0.1", 7)), WISH, HOST)
    assert [(step.level, step.topic) for step in told] == [
        (Level.GREEN, topic) for topic in ("container", "health", "ports", "service", "address")
    ]
    assert said(told, "ports") == "port 6379/tcp of redis-demo is published at 0.0.0.0:49155, 172.17.0.1:7"
    assert said(told, "service") == "redis-demo is registered as redis-A, as registrar's command line says"
    chosen = "port 6379/tcp of redis-demo is reached at 10.1.2.3:49155: as --advertise says"
    lost = "not told: 172.17.0.1, which lies inside a bridge network of this host's Docker"
    assert said(told, "address") == f"{chosen}; {lost}"


def test_a_label_that_the_command_line_overrules_is_named() -> None:
    told = explain_wish(named("SERVICE_NAME=cache"), WISH, HOST)
    assert said(told, "service").endswith("; SERVICE_NAME=cache does not count then")


UNPUBLISHED = "port 6379/tcp of redis-demo is not published; of its ports published:"
DIED = {"Status": "exited", "Running": False, "ExitCode": 137, "OOMKilled": True}
ILL = {"Health": {"Status": "unhealthy", "Log": [{"ExitCode": 0}, {"ExitCode": 1, "Output": "disk\nfull\n"}]}}


@pytest.mark.parametrize(
    ("inspected", "red"),
    [
        (None, "container: no container is called redis-demo"),
        (
            container(state=DIED),
            "container: redis-demo is exited (exit code 137, killed for want of memory)",
        ),
        (container(state={"Paused": True, "Status": "paused"}), "container: redis-demo is paused"),
        (
            container(binding(), state=ILL),
            "health: redis-demo fails its health check: exit code 1, disk full",
        ),
        (
            container(binding(), state={"Health": {"Status": "starting"}}),
            "health: redis-demo has not passed its health check yet",
        ),
        (
            container(binding(), port="80/tcp"),
            f"ports: {UNPUBLISHED} 80/tcp at 0.0.0.0:49155",
        ),
        (
            container(host_config={"NetworkMode": "container:4f4f"}),
            f"ports: {UNPUBLISHED} none is (its network is that of container:4f4f, which would have to publish it)",
        ),
        (
            container(host_config={"PortBindings": {"6379/tcp": [binding()]}}),
            "ports: port 6379/tcp of redis-demo is not mapped yet",
        ),
        (
            container(binding("127.0.0.1")),
            "address: redis-demo: published on 127.0.0.1 only, which every host has to itself",
        ),
    ],
)
def test_the_first_decision_that_fails_is_red_and_the_last_that_is_told(
    inspected: dict[str, Any] | None, red: str
) -> None:
    told = explain_wish(inspected, WISH, HOST)
    assert reds(told) == [red]
    assert told[-1].level is Level.RED
    assert told[-1].do


# A container among all


def test_a_container_is_told_port_by_port() -> None:
    inspected = named("SERVICE_6379_NAME=cache", env=("SERVICE_NAME=data", "SERVICE_6379_NAME=store", "PASSWORD=x"))
    told = explain_container(inspected, HERE, HOST)
    assert reds(told) == []
    lost = "variable SERVICE_6379_NAME=store, variable SERVICE_NAME=data lost against it"
    assert (
        said(told, "service") == f"port 6379/tcp of redis-demo is service cache: label SERVICE_6379_NAME=cache; {lost}"
    )
    assert said(told, "address") == "port 6379/tcp of redis-demo is reached at 10.1.2.3:49155: as --advertise says"


def test_without_a_name_the_image_names_it() -> None:
    told = explain_container(named(), HERE, HOST)
    assert said(told, "service").endswith("is service redis: the name of its image, redis, as there is no SERVICE_NAME")


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("service_name", "it would have to be called SERVICE_NAME"),
        ("service.name", "it would have to be called SERVICE_NAME"),
        ("SERVICE_NMAE", "it would have to be called SERVICE_NAME"),
        ("SERVICE_80_NAME", "it is for port 80, and the container's are 6379/tcp"),
    ],
)
def test_a_label_that_names_a_service_in_vain_is_told_and_red_for_who_asks_for_that(label: str, why: str) -> None:
    inspected = named(f"{label}=web")
    says = f"label {label}=web of redis-demo does not count: {why}"
    by_container = explain_container(inspected, HERE, HOST)
    assert (reds(by_container), said(by_container, "label")) == ([], says)
    assert reds(explain_container(inspected, HERE, HOST, asked="web")) == [f"label: {says}"]
    explicit = explain_container(inspected, Conventions("here", explicit=True), HOST)
    assert reds(explicit)[0] == f"label: {says}"


@pytest.mark.parametrize("label", ["SERVICE_TAGS=web", "SERVICE_REGION=eu", "SERVICE_6379_WEIGHT=3", "role=service"])
def test_other_labels_are_let_alone(label: str) -> None:
    told = explain_container(named(label), HERE, HOST, asked="web")
    assert {step.level for step in told} == {Level.GREEN}


def test_pain_20_who_asks_for_the_name_without_the_port_that_was_added_is_told_so() -> None:
    inspected = named("SERVICE_NAME=web")
    inspected["NetworkSettings"]["Ports"]["80/tcp"] = [binding(port=8080)]
    first, *_ = reds(explain_container(inspected, HERE, HOST, asked="web"))
    assert first.startswith(
        "service: port 80/tcp of redis-demo is web-80, not web: label SERVICE_NAME=web; the port is"
    )
    assert reds(explain_container(inspected, HERE, HOST, asked="web-80")) == []


def test_what_is_wrong_with_another_port_is_red_only_for_who_asks_for_the_container() -> None:
    inspected = named("SERVICE_NAME=web", "SERVICE_80_IGNORE=1")
    inspected["NetworkSettings"]["Ports"]["80/tcp"] = [binding("127.0.0.1", 8080)]
    inspected["NetworkSettings"]["Ports"]["443/tcp"] = [binding("127.0.0.1", 8443)]
    assert reds(explain_container(inspected, HERE, HOST)) == [
        "address: port 443/tcp of redis-demo is published on 127.0.0.1 only, which every host has to itself"
    ]
    assert reds(explain_container(inspected, HERE, HOST, asked="web")) == []


def test_all_of_a_container_left_out_on_purpose_is_red() -> None:
    told = explain_container(named("SERVICE_IGNORE=1"), HERE, HOST)
    assert reds(told) == ["service: port 6379/tcp of redis-demo is to be ignored: SERVICE_IGNORE is set"]


def test_a_name_that_cannot_be_a_record_is_told_with_who_said_it() -> None:
    (red,) = reds(explain_container(named("SERVICE_NAME=a/b"), HERE, HOST))
    assert red.startswith("service: port 6379/tcp of redis-demo cannot be a record: ")
    assert red.endswith("(label SERVICE_NAME=a/b)")


def test_internal_tells_the_containers_own_address() -> None:
    inspected = named()
    inspected["Config"]["ExposedPorts"] = {"6379/tcp": {}}
    inspected["NetworkSettings"]["Networks"] = {"net": {"IPAddress": "10.9.0.2"}}
    told = explain_container(inspected, Conventions("here", internal=True), HOST)
    assert said(told, "address") == "port 6379/tcp of redis-demo is reached at 10.9.0.2:6379: the container's own"


def test_in_brief_only_what_is_not_green_is_told_and_the_end_where_all_is() -> None:
    well, ill = explain_container(named(), HERE, HOST), explain_container(stopped(), HERE, HOST)
    assert in_brief("redis-demo", well) == well[-1:]
    assert [step.level for step in in_brief("redis-demo", ill)] == [Level.RED]


# What is true of all

STATES = st.sampled_from([{}, DIED, ILL, {"Paused": True}, {"Health": {"Status": "healthy"}}])
PLACES = st.lists(
    st.sampled_from([binding(), binding("127.0.0.1"), binding("192.0.2.7"), binding("::", 9)]), max_size=3
)
LABELS = st.dictionaries(
    st.sampled_from(["SERVICE_NAME", "service_name", "SERVICE_6379_NAME", "SERVICE_80_NAME", "SERVICE_IGNORE", "x"]),
    st.sampled_from(["web", "", "a/b", "\x1b[31m"]),
)


@given(STATES, PLACES, LABELS, st.booleans())
def test_red_is_told_exactly_where_nothing_is_registered_and_the_essence_decides_alike(
    state: dict[str, Any], places: list[dict[str, str]], labels: dict[str, str], explicit: bool
) -> None:
    """Of a container with one port; and nothing that it says of itself reaches a terminal as it is."""
    inspected = container(*places, state=state, config={"Image": "redis", "Labels": labels, "Env": ["SECRET=1"]})
    conventions = Conventions("here", explicit=explicit)
    found = find(inspected, conventions, HOST)
    told = explain_container(inspected, conventions, HOST)
    assert bool(reds(told)) is not bool(found.instances)
    assert all(f"{step.topic}{step.says}{step.do}".isprintable() for step in told)
    one = explain_wish(inspected, WISH, HOST)
    assert bool(reds(one)) is not isinstance(extract(inspected, WISH, HOST), Instance)
    small = essence(inspected)
    assert "SECRET=1" not in str(small)
    assert find(small, conventions, HOST) == found
    assert explain_container(small, conventions, HOST) == told
    assert explain_wish(small, WISH, HOST) == one
