"""The alert rules are Prometheus' own language, alarm when they should, and ask for what programs tell."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynproxy.metrics import FAMILIES as DYNPROXY
from registrar.metrics import FAMILIES as REGISTRAR
from tests.monitoring.queries import MONITORING, metrics, rules

ROOT = MONITORING.parent
TOLD = {family.name for family in (*DYNPROXY, *REGISTRAR)} | {"up"}  # `up` is Prometheus' own


def promtool(*arguments: object) -> None:
    if shutil.which("promtool") is None:
        pytest.fail("promtool is not on the path: apt-get install prometheus", pytrace=False)
    done = subprocess.run(
        ["promtool", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules_and_the_example() -> None:
    promtool("check", "rules", "monitoring/rules.yml")
    promtool("check", "config", "monitoring/prometheus.yml")


def test_a_well_fleet_alarms_nobody_and_each_illness_raises_its_own_alarm() -> None:
    promtool("test", "rules", "monitoring/rules-test.yml")


def test_every_alarm_is_tried() -> None:
    tried = set(re.findall(r'alertname="(\w+)"', (MONITORING / "rules-test.yml").read_text()))
    assert tried == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ('up{job=~"a|b"} == 0', {"up"}),
        (
            "sum by (host, service) (rate(amb_x_total[5m])) / on (host) group_left (y) amb_y > 1e3",
            {"amb_x_total", "amb_y"},
        ),
        ("a_b offset 5m unless count by (c) (d) and on (e) f", {"a_b", "d", "f"}),
        ("histogram_quantile(0.9, rate(x_bucket[$__rate_interval]))", {"x_bucket"}),
    ],
)
def test_the_metrics_of_a_query_are_found(query: str, named: set[str]) -> None:
    assert metrics(query) == named


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_told_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert metrics(rule["expr"])
    assert metrics(rule["expr"]) <= TOLD
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "runbook", "runbook_url"}
    path, _, anchor = notes["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / path)


def anchors(page: Path) -> set[str]:
    """The headings of a page as the manual's links name them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_the_example_loads_these_rules() -> None:
    assert yaml.safe_load((MONITORING / "prometheus.yml").read_text())["rule_files"] == ["rules.yml"]
