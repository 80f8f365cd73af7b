"""What registrar says when it is asked for a name."""

from __future__ import annotations

from typing import Any

import pytest

from ambcore.findings import Finding, Level
from ambcore.model import Address, Instance, Readiness, parse_ip
from ambcore.registration.conventions import Conventions, find
from ambcore.registration.extract import Host, Reason, Refusal
from ambcore.states import Lease
from registrar.explain import Keeping, Kept, Known, explain_all, record, upkeep
from tests.support.inspections import ID, OTHER_ID, binding, container

HOST, HERE = Host(parse_ip("10.1.2.3")), Conventions("here")
WELL = Keeping("5f", Lease.HELD)
ONE = Instance("web", "here:web-1:80", Address("10.1.2.3", 49155), container=ID)
THEIRS = f"a record {ONE.service}/{ONE.id} of another host"


def known(name: str, identity: str = ID, where: str = "0.0.0.0", **labels: str) -> Known:  # noqa: S104
    """A container with port 80 published, registered as far as it can be."""
    config = {"Image": "web", "Labels": labels}
    inspected = container(binding(where), name=name, identity=identity, config=config, port="80/tcp")
    return Known(inspected, tuple(Kept(made, made.id) for made in find(inspected, HERE, HOST).instances))


def asked(name: str, *containers: Known, keeping: Keeping = WELL) -> tuple[Finding, ...]:
    return explain_all(name, containers, HERE, HOST, keeping)


@pytest.mark.parametrize("name", ["web-1", ID, ID[:12], "web", "here:web-1:80", "web/here:web-1:80"])
def test_a_container_is_found_by_its_name_its_id_its_service_and_its_instance(name: str) -> None:
    told = asked(name, known("web-1"), known("other", OTHER_ID, SERVICE_NAME="else"))
    assert [step.topic for step in told] == ["container", "health", "ports", "service", "address", "record"]
    assert told[-1] == Finding(Level.GREEN, "record", "web/here:web-1:80 stands at 10.1.2.3:49155, under lease 5f")


@pytest.mark.parametrize("name", ["nothing", ID[:11], "we", "web/", "else/here:web-1:80"])
def test_of_another_name_nothing_is_told(name: str) -> None:
    assert asked(name, known("web-1")) == ()


def test_of_a_service_each_container_that_is_well_is_a_line_and_each_other_says_why() -> None:
    told = asked("web", known("web-1"), known("web-2", OTHER_ID, "127.0.0.1", SERVICE_NAME="web"))
    assert [(step.level, step.topic) for step in told] == [(Level.GREEN, "record"), (Level.RED, "address")]
    assert "web-2" in told[1].says


def test_a_crowd_is_told_of_in_part_and_says_so() -> None:
    crowd = [known(f"web-{number}", f"{number:064x}") for number in range(60)]
    told = asked("web", *crowd)
    assert len(told) == 51
    assert told[-1].says == "10 more are not told of: ask for one"


def test_what_was_refused_since_the_inspection_or_for_another_is_red() -> None:
    taken = Refusal(Reason.DUPLICATE, "web/here:web-1:80 is taken by web-2: give one another SERVICE_ID")
    told = asked("web-1", Known(known("web-1").looked, (), (taken,)))
    assert told[-1] == Finding(Level.RED, "container", taken.text)


@pytest.mark.parametrize(
    ("kept", "keeping", "level", "says"),
    [
        (Kept(ONE, None), WELL, Level.RED, "web/here:web-1:80 is not written yet"),
        (
            Kept(ONE, None),
            Keeping("5f", Lease.HELD, denied="permission denied"),
            Level.RED,
            "web/here:web-1:80 is not written yet: permission denied",
        ),
        (
            Kept(ONE, None),
            Keeping("", Lease.NONE, etcd="http://a: refused"),
            Level.RED,
            "web/here:web-1:80 is not written yet: http://a: refused",
        ),
        (
            Kept(ONE, ONE.id),
            Keeping("", Lease.NONE, missing="there is no lease: space exceeded"),
            Level.RED,
            "web/here:web-1:80 stands no more: there is no lease: space exceeded",
        ),
        (
            Kept(ONE, f"{ONE.id}@here"),
            WELL,
            Level.AMBER,
            f"{ONE.service}/{ONE.id}@here stands at {ONE.address}, under lease 5f, beside {THEIRS}",
        ),
        (
            Kept(ONE, ONE.id, superseded=True),
            WELL,
            Level.AMBER,
            "web/here:web-1:80 was taken over by another registrar of this host, and is left alone",
        ),
        (
            Kept(Instance("web", "one", ONE.address, readiness=Readiness.DRAINING), "one"),
            WELL,
            Level.AMBER,
            "web/one drains: its container was told to end",
        ),
    ],
)
def test_a_record_says_how_it_stands(kept: Kept, keeping: Keeping, level: Level, says: str) -> None:
    told = record(kept, keeping)
    assert (told.level, told.says) == (level, says)


def test_what_makes_all_of_it_uncertain_comes_first_and_only_if_there_is_an_answer() -> None:
    away: Any = Keeping("5f", Lease.SUSPECT, etcd="no answer", docker="unix:///x does not answer")
    assert [step.topic for step in upkeep(away)] == ["docker", "lease"]
    assert [step.topic for step in asked("web-1", known("web-1"), keeping=away)][:2] == ["docker", "lease"]
    assert asked("nothing", known("web-1"), keeping=away) == ()
    assert list(upkeep(WELL)) == []
