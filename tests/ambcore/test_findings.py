"""Findings: what they amount to, and what is believed of another process's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.findings import MAX_TEXT, Finding, Level, worst

FINDINGS = st.builds(
    Finding, st.sampled_from(Level), *[st.text(st.characters(categories=["L", "N", "Zs"]), max_size=50)] * 3
)


def of(*levels: Level) -> list[Finding]:
    return [Finding(level, "topic", "says") for level in levels]


@given(FINDINGS)
def test_a_finding_survives_its_way_as_json(finding: Finding) -> None:
    assert Finding.of(finding.document()) == finding


@pytest.mark.parametrize(
    "document", [None, [], "red", {}, {"level": "pink"}, {"level": ["red"]}, {"level": "red", "says": 1}]
)
def test_what_is_no_finding_is_refused(document: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them will do
        Finding.of(document)


def test_another_process_can_neither_flood_nor_steer_a_terminal() -> None:
    finding = Finding.of({"level": "red", "topic": "a\x1b[2Jb", "says": "x" * 10 * MAX_TEXT})
    assert "\x1b" not in finding.topic
    assert len(finding.says) == MAX_TEXT


def test_red_outweighs_amber_and_amber_what_nobody_knows() -> None:
    assert worst([]) is Level.GREEN
    assert worst(of(Level.GREEN, Level.UNKNOWN)) is Level.UNKNOWN
    assert worst(of(Level.UNKNOWN, Level.AMBER)) is Level.AMBER
    assert worst(of(Level.AMBER, Level.RED, Level.GREEN)) is Level.RED
