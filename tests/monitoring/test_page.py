"""docs/metrics.md is what the programs and the rules say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynproxy.metrics import FAMILIES as DYNPROXY
from registrar.metrics import FAMILIES as REGISTRAR
from tests.monitoring.queries import rules

ROOT = Path(__file__).parents[2]


def test_the_page_of_metrics_is_what_the_programs_and_the_rules_say() -> None:
    """Whoever adds a metric or an alarm writes the page anew."""
    written = subprocess.run(
        [sys.executable, ROOT / "scripts/metrics", "--print"], capture_output=True, text=True, check=True, timeout=60
    )
    shown = (ROOT / "docs/metrics.md").read_text()
    assert written.stdout == shown, "docs/metrics.md is out of date: make docs (or scripts/metrics) writes it"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_a_page_names_metrics_and_alarms_that_exist(page: Path) -> None:
    known = {family.name for family in (*DYNPROXY, *REGISTRAR)} | {rule["alert"] for rule in rules()}
    named = set(re.findall(r"`(amb_[a-z_]+|Ambassador[A-Z]\w+)", page.read_text()))
    assert named - {name for name in named if name.endswith("_")} <= known


def test_one_name_means_one_thing_in_every_program() -> None:
    every = {*DYNPROXY, *REGISTRAR}
    assert len({family.name for family in every}) == len(every)


def test_names_follow_prometheus_conventions() -> None:
    """Ours begin with our name, base units are spelt out, and nothing has a label that Prometheus has, too."""
    for family in {*DYNPROXY, *REGISTRAR}:
        assert family.name.startswith(("amb_", "process_"))
        assert not {"job", "instance", "host", "le", "quantile"} & set(family.labels), family.name
        assert not family.name.endswith(("_ms", "_milliseconds", "_kb", "_percent", "_count", "_sum", "_bucket"))
        assert family.meaning.endswith(".")
