"""What is said of programs, proxies, records and drains, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.admission import Admission, parse_networks
from ambcore.drains import Drains
from ambcore.findings import Finding, Level
from ambcore.fleet import Announcement, Drain, Kind
from ambcore.history import KeyValue
from ambcore.model import Address, Instance
from ambcore.table import Reader
from ambctl.doctor.checks import records
from ambctl.doctor.judge_programs import Asked, judge_programs
from ambctl.doctor.judge_proxies import differs, judge_proxy, reached, views
from ambctl.doctor.judge_records import Record, judge_drains, judge_records
from ambctl.doctor.summary import Outcome, cause, document, summary
from tests.support.ports import free_port

GREEN, AMBER, RED, UNKNOWN = Level
PROXY = Announcement(
    Kind.DYNPROXY, "core-1-aa", "core-1", "1.0", "http://10.0.0.1:9001", ("redis-A",), "2026-01-31T12:00:00Z"
)
REGISTRAR = replace(PROXY, kind=Kind.REGISTRAR, owner="core-1:abc")
ONE = Instance("redis-A", "one", Address("10.0.0.1", 6379))
INSTANCE = {"id": "one", "address": "10.0.0.1:6379", "state": "up"}
KNOWN = {"redis-A": {"one": "10.0.0.1:6379"}}


def status(**changed: Any) -> dict[str, Any]:
    """A proxy's status document where all is well, but for what is changed."""
    service = {
        "name": "redis-A",
        "watch": "watching",
        "revision": 7,
        "view_age": 0.5,
        "counters": {"no_room": 0},
        "instances": [INSTANCE],
        "refused": [],
    }
    plane = {
        "name": "kernel",
        "why": "the kernel forwards IPv4",
        "only_relay": None,
        "room": {"connections": 3, "most": 96, "why": "the limit of open files is 256"},
        "kernel": {"error": None},
    }
    service |= changed.pop("service", {})
    plane |= changed.pop("plane", {})
    etcd = {"connected": True, "last_error": None}
    return {"ready": True, "uptime": 5.0, "etcd": etcd, "services": [service], "plane": plane} | changed


def levels(findings: Iterable[Finding]) -> set[Level]:
    return {finding.level for finding in findings}


def has(findings: Iterable[Finding], level: Level, words: str) -> bool:
    return any(finding.level is level and words in finding.says for finding in findings)


# Programs


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        (Asked(PROXY, status()), GREEN, "1 service, up since 2026-01-31T12:00:00Z"),
        (Asked(PROXY, status(ready=False)), AMBER, "not ready"),
        (Asked(PROXY, None, "Connection refused"), AMBER, "does not answer: Connection refused"),
        (Asked(PROXY, None), UNKNOWN, "tells only its own machine"),
        (Asked(replace(PROXY, admin=None), None), AMBER, "has no admin server"),
        (
            Asked(REGISTRAR, {"docker": {"connected": False, "url": "unix:///d"}}),
            RED,
            "does not reach its Docker daemon (unix:///d)",
        ),
        (Asked(REGISTRAR, {"lease": {"state": "suspect"}}), AMBER, "its lease is suspect"),
        (Asked(REGISTRAR, {"etcd": {"connected": False, "last_error": "no answer"}}), RED, "etcd: no answer"),
        (
            Asked(REGISTRAR, {"ready": True, "container": {"name": "redis", "why": "redis is paused"}}),
            AMBER,
            "redis is not registered: redis is paused",
        ),
        (
            Asked(REGISTRAR, {"not_registered": [{"container": "web", "state": "unhealthy", "why": "it fails"}]}),
            AMBER,
            "web: not registered: it fails",
        ),
    ],
)
def test_a_program(asked: Asked, level: Level, words: str) -> None:
    assert has(judge_programs([asked], "1.0"), level, words)


def test_containers_that_are_left_out_on_purpose_are_not_spoken_of() -> None:
    document = {"ready": True, "not_registered": [{"container": "web", "state": "not-published", "why": "so"}]}
    assert levels(judge_programs([Asked(REGISTRAR, document)], "1.0")) == {GREEN}


def test_an_announcement_that_cannot_be_read_is_amber() -> None:
    found = list(judge_programs([Asked(PROXY, status())], "1.0", {"/ambassadors/programs/x": "key: not one"}))
    assert (found[0].level, found[0].topic) == (AMBER, "announcement /ambassadors/programs/x")


def test_another_version_is_amber_and_nobody_at_all_too() -> None:
    assert has(judge_programs([Asked(PROXY, status())], "1.1"), AMBER, "this is 1.1, but: dynproxy core-1-aa 1.0")
    assert has(judge_programs([], "1.0"), AMBER, "none has announced itself")


# Proxies


@pytest.mark.parametrize(
    ("changed", "level", "words"),
    [
        ({}, GREEN, "sees what etcd has of 1 service"),
        ({"service": {"instances": []}}, RED, "it does not know one"),
        ({"service": {"instances": [{"id": "two", "address": "a"}]}}, RED, "does not know one, still serves two"),
        ({"service": {"instances": [{"id": "one", "address": "a"}]}}, RED, "has another address for one"),
        ({"service": {"watch": "broken", "view_age": 9.0}}, RED, "stale view of redis-A at revision 7: 9 s without"),
        ({"service": {"view_age": 99.0}}, RED, "99 s without news from etcd"),
        ({"service": {"view_age": None, "instances": None}}, RED, "knows nothing of redis-A yet"),
        (
            {"plane": {"name": "relay", "why": "no CAP_NET_ADMIN: run with --cap-add NET_ADMIN"}},
            RED,
            "relays what the kernel should forward: no CAP_NET_ADMIN",
        ),
        ({"plane": {"name": "relay", "why": "x", "only_relay": "chosen by --plane relay"}}, GREEN, "chosen by"),
        ({"plane": {"name": "relay", "why": "nothing to forward: 127.0.0.1 is"}}, GREEN, "nothing to forward"),
        ({"plane": {"kernel": {"error": "nft refused"}}}, RED, "cannot write the kernel's rules: nft refused"),
        (
            {"plane": {"room": {"connections": 96, "most": 96, "why": "the limit of open files is 256"}}},
            RED,
            "is full: 96 connections, no more fit, as the limit of open files is 256",
        ),
        (
            {"plane": {"room": {"connections": 80, "most": 96, "why": "the limit of open files is 256"}}},
            AMBER,
            "80 connections, 96 fit",
        ),
        (
            {"service": {"instances": [INSTANCE | {"state": "ejected"}]}},
            RED,
            "none of 1 instance of redis-A answers it",
        ),
        ({"service": {"instances": [INSTANCE | {"state": "draining"}]}}, AMBER, "every instance of redis-A drains"),
        ({"fleet": {"drains": {"denied": True, "last_error": "denied"}}}, AMBER, "may not read what operators drained"),
        ({"service": {"counters": {"local_errors": 7}}}, AMBER, "could not dial 7 times"),
        ({"service": {"counters": {"no_room": 5}}}, AMBER, "had no room for clients 5 times"),
    ],
)
def test_a_proxy(changed: dict[str, Any], level: Level, words: str) -> None:
    assert has(judge_proxy(Asked(PROXY, status(**changed)), KNOWN), level, words)


def test_a_proxy_that_is_as_full_as_it_was_told_is_not_said_to_lack_files() -> None:
    room = {"room": {"connections": 9, "most": 9, "why": "--max-connections is 9"}}
    (found,) = (one for one in judge_proxy(Asked(PROXY, status(plane=room)), KNOWN) if one.level is RED)
    assert "as --max-connections is 9" in found.says
    assert found.do == "raise it, or run a second one"


def test_what_a_proxy_refuses_is_not_missed_in_its_view() -> None:
    refused = {"instances": [], "refused": [{"key": "/services/redis-A/one", "why": "address_denied"}]}
    assert not differs(status(service=refused), KNOWN)


def test_without_etcd_a_proxy_is_judged_by_what_it_says() -> None:
    stale = status(service={"watch": "broken", "view_age": 9.0, "instances": []})
    assert has(judge_proxy(Asked(PROXY, stale), None), RED, "stale view of redis-A")
    assert levels(judge_proxy(Asked(PROXY, status()), None)) == {GREEN}


def test_a_proxy_without_etcd_has_no_view_to_compare() -> None:
    assert list(views(status(etcd=None), KNOWN)) == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*status(), *status()["services"][0], "room", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(list(status())), anything, max_size=6))
def test_whatever_answers_in_a_program_s_place_is_judged(answer: dict[str, Any]) -> None:
    """And what it says is printable and bounded."""
    answer = json.loads(json.dumps(answer))
    for asked in (Asked(PROXY, answer), Asked(REGISTRAR, answer)):
        for finding in (*judge_programs([asked], "1.0"), *judge_proxy(asked, KNOWN)):
            assert finding.says.isprintable()
            assert len(finding.says) < 5000


@pytest.mark.parametrize("odd", [["unhealthy"], {}, 5, None])
def test_a_container_s_state_that_is_no_word_hides_nothing_of_the_others(odd: Any) -> None:
    containers = [{"container": "odd", "state": odd}, {"container": "ill", "state": "unhealthy", "why": "it fails"}]
    found = list(judge_programs([Asked(REGISTRAR, status(not_registered=containers))], "1.0"))
    assert [one.says for one in found if one.level is AMBER] == ["ill: not registered: it fails"]


# Records


def record(name: str = "one", lease: int = 5, owner: str | None = "core-1:abc", **more: Any) -> Record:
    item = KeyValue(f"/services/redis-A/{name}".encode(), b"", 3, lease)
    return Record(item, replace(ONE, id=name, owner=owner), **more)


OWNERS = frozenset({"core-1:abc"})


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (record(), GREEN, "1 record, each kept by a lease"),
        (record(lease=0), RED, "though the registrar of core-1:abc wrote it"),
        (record(lease=0, owner=None), AMBER, "nobody takes it away"),
        (record(lease=0, owner=None, answers=True), AMBER, "nobody takes it away"),
        (record(lease=0, owner=None, answers=False, why="refused"), RED, "nobody answers at 10.0.0.1:6379: refused"),
        (record(owner="core-9"), AMBER, "1 record of core-9, whose registrar has not announced itself"),
        (Record(KeyValue(b"/services/x", b"", 1), None, "key: not"), AMBER, "every proxy refuses it: key: not"),
    ],
)
def test_a_record(found: Record, level: Level, words: str) -> None:
    assert has(judge_records([found], OWNERS), level, words)


@pytest.mark.parametrize(
    ("check", "address", "level"),
    [
        ({"state": "up", "seconds": 0.001}, "10.0.0.1:6379", AMBER),
        ({"state": "up", "seconds": None}, "10.0.0.1:6379", RED),
        ({"state": "down", "seconds": 0.001}, "10.0.0.1:6379", RED),
        ({"state": "up", "seconds": 0.001}, "10.0.0.2:6379", RED),
        (["up"], "10.0.0.1:6379", RED),
        (None, "10.0.0.1:6379", RED),
    ],
)
def test_what_a_proxy_s_checks_reach_at_that_address_is_not_to_be_removed(
    check: Any, address: str, level: Level
) -> None:
    """The doctor's machine may be one that is not let through to it."""
    silent = record(lease=0, owner=None, answers=False, why="silent")
    document = status(service={"instances": [INSTANCE | {"check": check, "address": address}]})
    assert levels(judge_records([silent], OWNERS, set(reached(document)))) == {level}


class Scenery:
    """What the check of records asks for: a record without a lease where nobody answers, and what a proxy says."""

    settings = SimpleNamespace(reader=Reader("/services/", Admission(parse_networks("127.0.0.0/8"))))

    def __init__(self, port: int, state: str) -> None:
        self._value = b"127.0.0.1:%d" % port
        row = INSTANCE | {"address": f"127.0.0.1:{port}", "check": {"state": state, "seconds": 0.001}}
        self._document = status(service={"instances": [row]})

    async def records(self) -> tuple[KeyValue, ...]:
        return (KeyValue(b"/services/redis-A/one", self._value, 3),)

    async def asked(self) -> tuple[Asked, ...]:
        return (Asked(PROXY, self._document),)

    async def programs(self) -> tuple[Announcement, ...]:
        return (PROXY,)


async def test_the_doctor_compares_its_own_knocking_with_the_proxies_checks() -> None:
    port = free_port()
    assert levels(await records(cast("Any", Scenery(port, "up")))) == {AMBER}
    assert levels(await records(cast("Any", Scenery(port, "down")))) == {RED}


def test_many_bad_records_do_not_fill_the_screen_and_hostile_keys_stay_printable() -> None:
    bad = [Record(KeyValue(b"/services/\x1b[2J\xff%d" % number, b"", 1), None, "key") for number in range(50)]
    found = list(judge_records(bad, None))
    assert len(found) == 11
    assert found[-1].says == "and 40 more refused records"
    assert all(finding.topic.isprintable() for finding in found)


def test_drains_that_hit_nothing_are_named() -> None:
    marks = Drains.of([Drain("redis-A", "one"), Drain("redis-A", "gone"), Drain(host="core-9")])
    found = list(judge_drains(marks, [ONE]))
    assert [finding.topic for finding in found] == ["drain of host core-9", "drain of redis-A/gone", "drains"]
    assert found[0].do == "ambctl undrain --host core-9"
    assert "1 marker in force: redis-A/one" in found[2].says
    assert levels(judge_drains(Drains(), [ONE])) == {GREEN}


# All together


def finding(level: Level, says: str = "so") -> Finding:
    return Finding(level, "it", says, "act" if level is RED else "")


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ([], Outcome.WELL),
        ([GREEN, AMBER, UNKNOWN], Outcome.WELL),
        ([UNKNOWN, RED], Outcome.ILL),
        ([UNKNOWN, UNKNOWN], Outcome.UNSEEN),
    ],
)
def test_what_a_script_is_told(given: list[Level], outcome: Outcome) -> None:
    assert Outcome.of([finding(level) for level in given]) is outcome


def test_the_first_red_line_is_the_cause() -> None:
    found = [finding(AMBER), finding(RED, "first"), finding(RED, "then")]
    first = cause(found)
    assert first is not None
    assert first.says == "first"
    assert [line.says for line in summary(found)] == ["2 red, 1 amber", "it: first"]
    assert document([("a", found)])["cause"]["says"] == "first"
    assert document([("a", [finding(GREEN)])])["cause"] is None
