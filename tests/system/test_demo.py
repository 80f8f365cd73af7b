"""`make demo`, end to end, and what it leaves running. Its tests build on one another and run in this order."""

from __future__ import annotations

import collections
import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.programs import fetch
from tests.support.waiting import eventually
from tests.system.containers import ROOT, address, docker

pytestmark = [pytest.mark.docker, pytest.mark.system]

KEY = "/services/redis-A/redis-demo.service"
PROJECT = "label=com.docker.compose.project=etcd-ambassadors"


def _service(name: str) -> str:
    """The container of a service of the compose file."""
    found = docker("ps", "--quiet", "--filter", PROJECT, "--filter", f"label=com.docker.compose.service={name}")
    assert found, f"{name} does not run"
    return found


def _etcdctl(*arguments: str) -> str:
    return docker("exec", _service("etcd1"), "etcdctl", *arguments)


def _redis(*command: str) -> str:
    """The consumer's stock client; it waits as long as a connection may be parked, and no longer."""
    return docker("exec", _service("consumer"), "timeout", "12", "redis-cli", "-h", "redis", *command)


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """What `make demo` printed."""
    try:
        done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=360, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield done.stdout
    finally:
        subprocess.run(["scripts/demo-down"], cwd=ROOT, capture_output=True, timeout=120, check=False)


def test_the_demo_shows_a_pong_through_all_three_programs(demo: str) -> None:
    assert re.search(r"^\$ redis-cli -h redis ping\nPONG$", demo, re.MULTILINE)


def test_the_demo_shows_two_instances_in_turn(demo: str) -> None:
    answers = re.findall(r"^\$ redis-cli -h redis get instance\n(\S+)$", demo, re.MULTILINE)
    assert len(answers) == 6
    assert {answers[0], answers[1]} == {"redis-demo.service", "redis-demo-2.service"}
    assert answers == answers[:2] * 3


def test_the_demo_shows_what_etcd_holds(demo: str) -> None:
    """Host and port first, as the fleet demo wrote them; the rest is ours to add."""
    lines = demo.splitlines()
    for name in ("redis-demo.service", "redis-demo-2.service"):
        record = lines[lines.index(f"/services/redis-A/{name}") + 1]
        assert re.match(r'\{"host": "[0-9.]+", "port": [0-9]+[,}]', record)


def test_the_hosts_reach_each_other_through_published_ports_only(demo: str) -> None:
    record = json.loads(_etcdctl("get", "--print-value-only", KEY))
    ask = ("docker", "exec", _service("consumer"), "timeout", "3", "redis-cli")
    published = (*ask, "-h", record["host"], "-p", str(record["port"]), "ping")
    assert subprocess.run(published, capture_output=True, text=True, check=False).stdout == "PONG\n"
    directly = (*ask, "-h", address("redis-demo.service"), "ping")
    assert subprocess.run(directly, capture_output=True, check=False).returncode != 0


def test_the_admin_servers_answer_on_this_machine(demo: str) -> None:
    assert fetch("http://127.0.0.1:9401/readyz")[0] == 200
    assert fetch("http://127.0.0.1:9402/readyz")[0] == 200
    assert "redis-demo-2.service" in fetch("http://127.0.0.1:9402/status.json")[1]


def test_the_profile_scale_balances_over_three(demo: str) -> None:
    services = ("redis-3", "redis-docker-reg-3")
    _compose("up", "--detach", "--no-build", *services)
    docker("exec", "redis-demo-3.service", "redis-cli", "set", "instance", "redis-demo-3.service")

    def each_a_third() -> bool:
        return sorted(collections.Counter(_redis("get", "instance") for _ in range(9)).values()) == [3, 3, 3]

    eventually(each_a_third, 20, "nine connections, three for each")


def _compose(*arguments: str) -> None:
    """Compose as the scripts call it, v2 or 1.29."""
    command = ["bash", "-c", '. scripts/lib.sh; compose "$@"', "scripts/demo", *arguments]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)


@pytest.mark.parametrize(
    "order",
    [
        ("redis-dyn-amb", "etcd-amb-redis2", "etcd1", "redis-docker-reg", "etcd-amb-redis", "redis"),
        ("redis", "etcd3", "etcd-amb-redis", "etcd2", "redis-docker-reg", "redis-dyn-amb"),
    ],
    ids=["from-the-consumer", "from-redis"],
)
def test_any_order_of_restarts_converges(demo: str, order: tuple[str, ...]) -> None:
    """Each part restarted while the one before is still on its way back; no hand is needed."""
    for name in order:
        docker("restart", "--time", "3", _service(name))

    def in_order() -> bool:
        keys = _etcdctl("get", "--prefix", "--keys-only", "/services/redis-A/").split()
        return KEY in keys and _redis("ping") == "PONG"

    eventually(in_order, 40, "the record is there and a PING comes through")


def test_demo_down_leaves_nothing(demo: str) -> None:
    down = subprocess.run(["scripts/demo-down"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert down.returncode == 0, down.stderr
    assert docker("ps", "--all", "--quiet", "--filter", PROJECT) == ""
    assert docker("network", "ls", "--quiet", "--filter", PROJECT) == ""
    assert docker("volume", "ls", "--quiet", "--filter", PROJECT) == ""
