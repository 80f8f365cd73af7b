"""docker-compose.yml, as it stands."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import dynproxy.config
import simple_amb.config

SERVICES = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]
DRAINING = {"dynproxy": dynproxy.config.Settings, "simple-amb": simple_amb.config.Settings}
COMPOSES_OWN = "10s"


@pytest.mark.parametrize("program", DRAINING)
def test_compose_waits_for_longer_than_open_connections_may_take(program: str) -> None:
    """Left to itself it kills what has not ended after ten seconds."""
    drain: Any = next(field.default for field in fields(DRAINING[program]) if field.name == "drain")
    found = [service for service in SERVICES.values() if service["image"] == f"etcd-ambassadors/{program}"]
    assert found
    for service in found:
        assert float(service.get("stop_grace_period", COMPOSES_OWN).removesuffix("s")) > drain
