"""What is said of etcd's members, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from ambcore.findings import Finding, Level
from ambcore.members import Alarm, ListedMember, MemberStatus
from ambctl.doctor.advisories import cure, known_for, parse_version
from ambctl.doctor.judge_access import Access, judge_access
from ambctl.doctor.judge_etcd import Seen, judge_clocks, judge_cluster, judge_endpoints, judge_space, judge_versions

GREEN, AMBER, RED, UNKNOWN = Level
STATUS = MemberStatus(
    cluster=7, member=1, version="3.5.33", leader=1, term=2, index=1000, applied=1000, size=4 << 20, used=2 << 20
)
ONE = Seen("http://a:2379", STATUS, latency=0.002, clock=0.1, quota=2 << 30)
TWO = replace(ONE, url="http://b:2379", status=replace(STATUS, member=2))
AWAY = Seen("http://c:2379", error="Connection refused")
MEMBERS = tuple(ListedMember(number, name) for number, name in enumerate("abc", 1))


def said(findings: Iterable[Finding]) -> list[tuple[Level, str]]:
    return [(finding.level, finding.says) for finding in findings]


def seen(**changed: object) -> Seen:
    return replace(ONE, status=replace(STATUS, **changed))  # type: ignore[arg-type]


def test_a_member_that_is_away_is_red_only_when_nobody_else_serves() -> None:
    assert [level for level, _ in said(judge_endpoints([ONE, AWAY]))] == [GREEN, AMBER]
    assert said(judge_endpoints([AWAY])) == [(RED, "Connection refused")]


def test_a_slow_answer_is_amber() -> None:
    assert said(judge_endpoints([replace(ONE, latency=0.5)])) == [(AMBER, "answers in 500.0 ms, which is slow")]


@pytest.mark.parametrize(
    ("these", "level", "words"),
    [
        ([ONE, TWO], GREEN, "3 members, leader a, all agree; bears the loss of 1"),
        ([ONE, replace(TWO, status=replace(STATUS, cluster=8))], RED, "different clusters"),
        ([seen(leader=0)], RED, "knows no leader"),
        ([ONE, replace(TWO, status=replace(STATUS, leader=2))], AMBER, "different leaders"),
        ([seen(learner=True)], AMBER, "learner"),
        ([ONE, replace(TWO, status=replace(STATUS, index=9000, applied=9000))], AMBER, "8000 entries"),
    ],
    ids=["well", "two clusters", "no leader", "two leaders", "learner", "behind"],
)
def test_what_members_say_of_one_another(these: list[Seen], level: Level, words: str) -> None:
    assert any(one is level and words in text for one, text in said(judge_cluster(these, MEMBERS)))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (MEMBERS[:2], "2 members vote: that bears no more failures than 1 do"),
        ((*MEMBERS, ListedMember(0xAB, "")), "ab was added and has never started"),
    ],
)
def test_a_cluster_that_bears_less_than_it_seems_is_amber(members: tuple[ListedMember, ...], words: str) -> None:
    assert (AMBER, words) in said(judge_cluster([ONE], members))


def test_an_alarm_is_red_and_names_its_member() -> None:
    (level, text), *_ = said(judge_space([ONE], [Alarm(1, "NOSPACE")]))
    assert (level, "http://a:2379 is full" in text) == (RED, True)
    assert said(judge_space([ONE], [Alarm(9, "CORRUPT")]))[0] == (RED, "member 9 has raised the alarm CORRUPT")


def test_a_database_near_its_quota_is_amber_and_alarms_that_are_not_told_are_unknown() -> None:
    assert said(judge_space([replace(ONE, quota=2 << 20)], ()))[0] == (AMBER, "http://a:2379 uses 2 of 2 MiB")
    assert said(judge_space([ONE], None, "permission denied"))[0] == (UNKNOWN, "it does not tell: permission denied")


def test_a_clock_that_is_off_is_amber() -> None:
    assert said(judge_clocks([replace(ONE, clock=-60)])) == [(AMBER, "http://a:2379 is 60 s behind this machine")]
    assert said(judge_clocks([ONE])) == [(GREEN, "within 5 s of etcd's")]
    assert said(judge_clocks([replace(ONE, clock=None)])) == []


@pytest.mark.parametrize(
    ("version", "names", "to"),
    [
        (
            "3.4.23",
            {"CVE-2026-33413", "CVE-2026-33343", "GHSA-xg4h-6gfc-h4m8", "etcd #15247", "its change log"},
            "3.5.33",
        ),
        ("3.4.42", {"GHSA-xg4h-6gfc-h4m8"}, "3.5.33"),
        ("3.5.27", {"CVE-2026-33413", "CVE-2026-33343", "GHSA-xg4h-6gfc-h4m8"}, "3.5.33"),
        ("3.5.28", {"GHSA-xg4h-6gfc-h4m8"}, "3.5.33"),
        ("3.5.33", set(), "3.5.33"),
        ("3.6.9", {"GHSA-xg4h-6gfc-h4m8"}, "3.6.14"),
        ("3.6.14", set(), "3.6.14"),
        ("3.7.0-rc.1", {"GHSA-xg4h-6gfc-h4m8"}, "3.7.1"),
        ("3.8.0", set(), "3.8.0"),
    ],
)
def test_known_bad_versions_and_the_nearest_good_one(version: str, names: set[str], to: str) -> None:
    parsed = parse_version(version)
    assert parsed is not None
    assert {advisory.name for advisory in known_for(parsed)} == names
    assert ".".join(map(str, cure(parsed))) == to


def test_a_bad_version_is_amber_and_says_what_it_means_without_authentication() -> None:
    old = seen(version="3.5.28")
    (level, text), *_ = said(judge_versions([old, old], guarded=False))
    assert level is AMBER
    assert "GHSA-xg4h-6gfc-h4m8" in text
    assert "authentication is off" in text
    assert "authentication is off" not in said(judge_versions([old], guarded=True))[0][1]
    assert said(judge_versions([ONE], guarded=True)) == [(GREEN, "3.5.33 is known for nothing bad")]
    assert said(judge_versions([seen(version="mine")], guarded=True))[0][0] is UNKNOWN
    assert (AMBER, "members run 3.5.33, 3.5.34") in said(judge_versions([ONE, seen(version="3.5.34")], guarded=True))


@pytest.mark.parametrize(
    ("access", "level", "words"),
    [
        (Access("/s/", records=3), GREEN, "3 records there"),
        (Access("/s/", denied="user name is empty"), RED, "no user is given"),
        (Access("/s/", "eve", denied="etcdserver: permission denied"), RED, "eve may not read /s/"),
        (Access("/s/", "eve", denied="etcdserver: authentication failed"), RED, "eve is not let in"),
        (Access("/s/", records=0, writing="permission denied"), RED, "writing below /s/ is refused: permission denied"),
        (Access("/s/", records=0, writing=""), GREEN, "may write below /s/"),
        (Access("/s/", "eve", records=0, plain_to=("http://b:2379",)), RED, "in plain text"),
        (Access("/s/", records=0, guarded=False), AMBER, "authentication is off"),
        (Access("/s/", failed="no member answers"), UNKNOWN, "no member answers"),
    ],
)
def test_who_is_let_in(access: Access, level: Level, words: str) -> None:
    assert any(one is level and words in text for one, text in said(judge_access(access)))
