"""The document says what the results say."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from bench.chart import chart
from bench.report import CHART, DOCUMENT, TITLES, render
from bench.results import read
from bench.rounds import Row
from bench.subjects import SUBJECTS
from bench.targets import TARGETS, Target

MACHINE = {
    "date": "2026-01-02T03:04:05+00:00", "rounds": 5, "seconds": 600, "quick": False, "cpu": "Z80", "cores": 2,
    "memory_gib": 4, "kernel": "6.1", "python": "3.11", "versions": {"haproxy": "2.6"}, "missing": [],
    "visits": 40, "restless": 1,
}  # fmt: skip


def row(subject: str, value: float, *, haproxy: float | None = None, metric: str = "rate") -> Row:
    return Row("get-50", subject, metric, "1/s", value, value, value, None, haproxy, 1)


def test_the_document_and_its_chart_are_those_of_the_results_in_the_repository() -> None:
    """After `make bench`, or a change of the report: `python -m bench.report`."""
    rows, machine = read()
    assert DOCUMENT.read_text() == render(rows, machine)
    assert CHART.read_text() == chart(rows, list(SUBJECTS))


def test_every_row_of_the_results_is_in_the_document() -> None:
    rows, machine = read()
    assert {row.workload for row in rows} <= set(TITLES)
    assert {row.subject for row in rows} <= set(SUBJECTS)
    text = render(rows, machine)
    assert all(f"### {TITLES[row.workload]}\n" in text for row in rows)


def test_a_loss_against_haproxy_is_said() -> None:
    text = render([row("relay-1", 90, haproxy=0.9), row("kernel", 140, haproxy=1.4)], MACHINE)
    losses = text.partition("## Where HAProxy is better")[2].partition("\n## ")[0]
    assert "- relay-1, redis GET over 50 connections: rate 0.90 of HAProxy's" in losses
    assert "kernel" not in losses


def test_more_latency_is_a_loss_although_the_number_is_greater() -> None:
    text = render([row("relay-1", 2, haproxy=1.5, metric="p99")], MACHINE)
    assert "p99 1.50 of HAProxy's" in text


def test_what_could_not_be_measured_is_said_with_its_reason() -> None:
    missing = [{"workload": "udp", "subject": "nginx", "times": 2, "why": "nginx is not installed"}]
    text = render([row("relay-1", 1)], {**MACHINE, "missing": missing})
    assert "- nginx, udp, 2 time(s): nginx is not installed" in text


def test_a_target_that_was_missed_is_shown_as_missed() -> None:
    text = render([row("kernel", 100, haproxy=1.2)], MACHINE)
    assert "| kernel: GET/s, 50 connections, of HAProxy | ≥ 1.35 | 1.2 | **no** |" in text
    assert "| kernel: GET/s, 50 connections, of direct | ≥ 0.97 | not measured | |" in text


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.text)
def test_every_target_asks_for_a_figure_that_is_measured(target: Target) -> None:
    """Renaming a workload or a metric must not silence a target."""
    rows, machine = read()
    if target.reached({(row.workload, row.subject, row.metric): row for row in rows}) is None:
        assert machine["quick"] or machine["missing"], f"{target.text} has no figure in a full run"


def test_the_chart_is_well_formed_and_names_every_subject_that_it_shows() -> None:
    text = chart([row("kernel", 100), row("socat", 5)], list(SUBJECTS))
    words = [node.text for node in ET.fromstring(text).iter() if node.tag.endswith("text")]  # noqa: S314 - our own
    assert {"kernel", "socat", "100", "5"} <= set(words)
    assert "nginx" not in words
