"""The unit files by themselves: what systemd and fleet say to them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.hosts.conftest import Hosts
from tests.hosts.machine import ROOT

FLEET = sorted((ROOT / "units/fleet").glob("*.service"))
SOCKETS = sorted((ROOT / "units/systemd/examples").glob("*.socket"))
QUADLET = ROOT / "units/quadlet"
PLAIN = sorted((ROOT / "units/systemd").glob("*.service"))

MANUAL = (ROOT / "units/README.md").read_text()

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


CONTAINERS = sorted(QUADLET.glob("*.container"))


@pytest.mark.parametrize("unit", FLEET + PLAIN + CONTAINERS, ids=lambda unit: f"{unit.parent.name}-{unit.stem}")
def test_no_unit_is_given_up_after_a_few_quick_failures(unit: Path) -> None:
    """Five starts within ten seconds are systemd's limit: with a pause of one second a moment's trouble is enough."""
    about, _, service = unit.read_text().partition("[Service]\n")
    assert "Restart=always" in service.splitlines()
    assert "StartLimitIntervalSec=0" in about.splitlines()


@pytest.mark.docker
@pytest.mark.hosts
@pytest.mark.parametrize("unit", FLEET + PLAIN, ids=lambda unit: unit.stem)
def test_systemd_verifies_the_unit_without_a_word(hosts: Hosts, unit: Path) -> None:
    """On a host where everything that a unit names is installed, `systemd-analyze verify` finds nothing to say."""
    name = unit.name.replace("@.", "@some.")
    command = f"systemd-analyze verify --man=no /etc/systemd/system/{name} 2>&1"
    said = hosts.a.run("sh", "-c", f"{command}; echo exit $?")
    assert said == "exit 0"


@pytest.mark.docker
@pytest.mark.hosts
@pytest.mark.parametrize("unit", PLAIN, ids=lambda unit: unit.stem)
def test_a_unit_exposes_no_more_than_its_manual_says(hosts: Hosts, unit: Path) -> None:
    """By systemd's own measure, which counts what each sandboxing option leaves open."""
    stated = dict(re.findall(r"^\| `(\S+@\.service)` \| (\d\.\d) \|$", MANUAL, re.MULTILINE))
    place = f"/run/weighed/{unit.name.replace('@.', '@some.')}"
    hosts.a.write(place, unit.read_text())
    said = hosts.a.run("systemd-analyze", "security", "--no-pager", "--offline=true", place)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert found is not None, said
    assert float(found[1]) <= float(stated[unit.name]), said


@pytest.mark.docker
@pytest.mark.hosts
@pytest.mark.parametrize("unit", SOCKETS, ids=lambda unit: unit.stem)
def test_systemd_verifies_an_example_of_a_socket_without_a_word(hosts: Hosts, unit: Path) -> None:
    place = f"/run/verified/{unit.name}"
    hosts.a.write(place, unit.read_text())
    said = hosts.a.run("sh", "-c", f"systemd-analyze verify --man=no {place} 2>&1; echo exit $?")
    assert said == "exit 0"


@pytest.mark.docker
@pytest.mark.hosts
def test_podman_makes_units_of_every_quadlet_without_a_word(hosts: Hosts) -> None:
    """By Podman's own generator; it names a key that it does not know, and leaves out a file that it does not like."""
    folder = "/run/quadlet-tested"
    for each in QUADLET.iterdir():
        hosts.a.write(f"{folder}/{each.name}", each.read_text())
    generate = f"QUADLET_UNIT_DIRS={folder} /usr/libexec/podman/quadlet -dryrun -no-kmsg-log"
    made = hosts.a.run("sh", "-c", f"{generate} 2>&1")
    said = [line for line in made.splitlines() if line.startswith("quadlet-generator") and "Loading source" not in line]
    assert not said
    started = [line for line in made.splitlines() if line.startswith("ExecStart=")]
    assert len(started) == len(list(QUADLET.iterdir()))
    for line in ("simple-amb 10.0.0.11:2379 10.0.0.12:2379 10.0.0.13:2379", "dynproxy redis-A 6379"):
        assert sum(each.endswith(f"etcd-ambassadors/{line}") for each in started) == 1
