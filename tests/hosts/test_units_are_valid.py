"""The unit files by themselves: what systemd and fleet say to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.conftest import Hosts
from tests.hosts.machine import ROOT

FLEET = sorted((ROOT / "units/fleet").glob("*.service"))
PLAIN = sorted((ROOT / "units/systemd").glob("*.service"))

# fleet 0.9 to 1.0 refuses a unit with any other option in [X-Fleet].
FLEET_OPTIONS = {"MachineID", "MachineOf", "MachineMetadata", "Conflicts", "Global"}


def _x_fleet(unit: Path) -> list[str]:
    _, _, section = unit.read_text().partition("[X-Fleet]\n")
    return [line for line in section.splitlines() if line and not line.startswith("#")]


def test_the_fleet_demo_has_its_five_units() -> None:
    assert [unit.name for unit in FLEET] == [
        "etcd-amb-redis.service",
        "etcd-amb-redis2.service",
        "redis-demo.service",
        "redis-docker-reg.service",
        "redis-dyn-amb.service",
    ]


@pytest.mark.parametrize("unit", FLEET, ids=lambda unit: unit.stem)
def test_fleet_knows_every_option_of_its_section(unit: Path) -> None:
    assert {line.partition("=")[0] for line in _x_fleet(unit)} <= FLEET_OPTIONS


def test_fleet_puts_each_ambassador_beside_whom_it_serves_and_the_two_hosts_apart() -> None:
    placed = {unit.name: _x_fleet(unit) for unit in FLEET}
    assert placed == {
        "redis-demo.service": [],
        "etcd-amb-redis.service": ["MachineOf=redis-demo.service"],
        "redis-docker-reg.service": ["MachineOf=redis-demo.service"],
        "etcd-amb-redis2.service": ["Conflicts=redis-demo.service"],
        "redis-dyn-amb.service": ["MachineOf=etcd-amb-redis2.service"],
    }


@pytest.mark.docker
@pytest.mark.hosts
@pytest.mark.parametrize("unit", FLEET + PLAIN, ids=lambda unit: unit.stem)
def test_systemd_verifies_the_unit_without_a_word(hosts: Hosts, unit: Path) -> None:
    """On a host where everything that a unit names is installed, `systemd-analyze verify` finds nothing to say."""
    name = unit.name.replace("@.", "@some.")
    command = f"systemd-analyze verify --man=no /etc/systemd/system/{name} 2>&1"
    said = hosts.a.run("sh", "-c", f"{command}; echo exit $?")
    assert said == "exit 0"
