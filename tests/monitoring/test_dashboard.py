"""The dashboard asks for what programs tell, in a language that Prometheus understands."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.queries import MONITORING, metrics, panels
from tests.monitoring.test_rules import TOLD, promtool


def queries() -> list[str]:
    """Every query of the dashboard, those of its variables included."""
    variables = json.loads((MONITORING / "dashboard.json").read_text())["templating"]["list"]
    asked = [variable["definition"] for variable in variables if variable["type"] == "query"]
    inner = [re.sub(r"^label_values\((.*), \w+\)$", r"\1", query) for query in asked]
    return [*inner, *(target["expr"] for panel in panels() for target in panel["targets"])]


@pytest.mark.parametrize("query", queries())
def test_a_query_names_metrics_that_exist(query: str) -> None:
    assert metrics(query)
    assert metrics(query) <= TOLD


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    """Each as a rule of its own, with what Grafana puts in for its variables."""
    plain = [query.replace("$__rate_interval", "1m").replace("$", "") for query in queries()]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(plain)]
    written = tmp_path / "queries.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", written)


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    every: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    cells = [set(_cells(panel["gridPos"])) for panel in every]
    assert not any(one & other for one, other in itertools.combinations(cells, 2))
    assert all(panel["title"] for panel in every)


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    """The cells of the grid, 24 wide, that a panel takes."""
    columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
    assert columns.stop <= 24
    return list(itertools.product(columns, lines))
