"""Which metrics a query of Prometheus names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "monitoring"

# What stands between quotes, brackets or braces names no metric, and neither do the labels of `by (…)` and its like.
ELSEWHERE = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)')
NAME = re.compile(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(?!\s*\()")
WORDS = {"and", "or", "unless", "offset", "bool", "by", "on", "inf"}


def metrics(query: str) -> set[str]:
    """The names of a query's metrics."""
    query = re.sub(r"\$\w+", "", ELSEWHERE.sub(" ", query))
    return {name for name in NAME.findall(query) if name not in WORDS and not re.fullmatch(r"\d\w*|e\d+", name)}


def rules() -> list[dict[str, Any]]:
    """Every rule of rules.yml."""
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[dict[str, Any]]:
    """Every panel of the dashboard that asks something."""
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        if panel["type"] != "row":
            yield panel
