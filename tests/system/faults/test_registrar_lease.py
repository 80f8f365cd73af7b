"""A registrar's lease in the face of its own death and of starvation, with the default lease of ten seconds."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.registrar.scene import Records, registrar, watched
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program, fetch
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system, pytest.mark.long]

Figure = Callable[[str], None]
TTL = 10


@pytest.mark.parametrize("leader", ["stays", "changes"])
def test_B1_kill_9_with_the_default_lease(
    docker: Docker, tmp_path: Path, prefix: str, figure: Figure, leader: str
) -> None:
    """A new leader gives every lease its whole time anew, so whoever dies with it is offered for longer."""
    name = docker.run("-p", "80")
    with EtcdCluster(tmp_path, size=3) as etcd:
        records = Records(etcd, prefix)
        with registrar(etcd, prefix, name, ttl=TTL) as program:
            records.appears(name)
            program.kill()
            killed = time.monotonic()
        if leader == "changes":
            time.sleep(TTL / 2)
            etcd.leader().kill()
        latest = 2 * TTL + 2 if leader == "changes" else TTL + 1.5
        records.vanishes(name, seconds=latest + 5)
        took = time.monotonic() - killed
    figure(f"leader {leader}: gone {took:.1f} s after the kill")
    assert TTL * 2 / 3 - 0.2 <= took <= latest


def lag(admin: str) -> float:
    """How late the loop was of late."""
    found = re.search(r"^amb_loop_lag_seconds (\S+)", fetch(f"http://{admin}/metrics")[1], re.MULTILINE)
    assert found is not None
    return float(found[1])


@contextlib.contextmanager
def starved(docker: Docker, program: Program) -> Iterator[None]:
    """A twentieth of a processor, by the cgroup of a container that is allowed no more."""
    container = docker.run("--cpus", "0.05")
    pid = docker.inspect(container)["State"]["Pid"]
    into, back = cgroup_of(pid), cgroup_of(program.pid)
    into.write_text(str(program.pid))
    try:
        yield
    finally:
        back.write_text(str(program.pid))


def cgroup_of(pid: int) -> Path:
    """Where to write the processes whose share of a processor is that of `pid`'s."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if "cpu" in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controllers}{path}/cgroup.procs")
    return Path(f"/sys/fs/cgroup{lines[-1][2]}/cgroup.procs")


def test_B13_a_twentieth_of_a_processor(docker: Docker, shared_etcd: EtcdCluster, prefix: str, figure: Figure) -> None:
    """For three lifetimes of the lease; then the loop stands still for two seconds."""
    name, admin = docker.run("-p", "80"), f"127.0.0.1:{free_port()}"
    records = Records(shared_etcd, prefix)
    with registrar(shared_etcd, prefix, name, "--admin", admin, ttl=TTL) as program:
        records.appears(name)
        worst = 0.0
        with watched(shared_etcd, prefix) as watch:
            with starved(docker, program):
                end = time.monotonic() + 3 * TTL
                while time.monotonic() < end:
                    # Each question is work, all of them more than it may do; it may take longer to answer than we wait.
                    with contextlib.suppress(AssertionError):
                        worst = max(worst, lag(admin))
            program.signal(signal.SIGSTOP)
            time.sleep(2)
            program.signal(signal.SIGCONT)
            blocked = eventually(lambda: lag(admin) if lag(admin) > 1.0 else None, 10, "the lag of a stop shows")
            assert watch.changes == []
        assert "is gone" not in program.log
        assert worst > 0.05
    figure(f"{3 * TTL} s at 5 % of a processor: lease kept, lag up to {worst:.2f} s; stopped for 2 s: {blocked:.1f} s")
