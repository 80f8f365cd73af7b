"""The wall clock jumps, as when somebody sets it or a virtual machine wakes up: leases know nothing of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.registrar.scene import SERVICE, Records, registrar, watched
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program, status
from tests.support.shifted_clock import ShiftedClock
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system, pytest.mark.long]

TTL = 10
HOUR = 3600


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock:
    return ShiftedClock(tmp_path)


def test_B12_clock_jump(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, clock: ShiftedClock, figure: Callable[[str], None]
) -> None:
    """An hour on, two hours back, an hour on: two lifetimes of the lease after each, nothing is written.

    The clock is that of registrar and of dynproxy, and of every library in them. etcd counts its leases by its own
    monotonic clock, which no setting of a wall clock moves.
    """
    name, admin = docker.run("-p", "80"), f"127.0.0.1:{free_port()}"
    records = Records(shared_etcd, prefix)
    where = ("--etcd", ",".join(shared_etcd.endpoints), "--prefix", prefix, "--plane", "relay", "--admin", admin)
    with clock:
        program = registrar(shared_etcd, prefix, name, "--log", "json", ttl=TTL)
        proxy = Program("dynproxy", SERVICE, str(free_port()), *where, prefix=clock.command)
        program.prefix = [*clock.command]
        with program, proxy:
            records.appears(name)
            eventually(lambda: status(admin)["services"][0]["instances"])
            with watched(shared_etcd, prefix) as watch:
                for shift in (HOUR, -HOUR, 0):
                    clock.shift(shift)
                    end = time.monotonic() + 2 * TTL
                    while time.monotonic() < end:
                        (service,) = status(admin)["services"]
                        assert [one["id"] for one in service["instances"]] == [name]
                        assert service["view_age"] < 2 * TTL
                        time.sleep(0.5)
                    assert watch.changes == []
                clock.shift(HOUR)
                docker("pause", name)
                records.vanishes(name, seconds=2)
                eventually(lambda: not status(admin)["services"][0]["instances"], 2)
        last = json.loads(next(line for line in reversed(program.lines) if "deregistered" in line))
        seen = datetime.fromisoformat(last["ts"]).timestamp() - time.time()
        assert HOUR - 60 < seen < HOUR + 1, "it did not live by the clock that jumped"
        assert "is gone" not in program.log
    figure(f"jumps of 1, 2 and 1 h: lease kept, 0 writes in {6 * TTL} s, the proxy's view proven current throughout")
