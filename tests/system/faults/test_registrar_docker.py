"""What a Docker daemon, or a proxy before it, may do to registrar: bursts, silence, breaks, and Podman's words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.registrar.host_scene import HostRecords, host_registrar
from tests.registrar.scene import Records, registrar, watched
from tests.support.crowd import Crowd
from tests.support.docker_engine import HOST_SOCKET, Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.fault_proxy import FaultProxy
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]
RESYNC = 30.0  # seconds, the default
BURST, LOOKS = 2000, 120.0  # containers, and the seconds that a busy machine may take to look at them


def cpu_seconds(pid: int) -> float:
    """What a process has worked so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def records(shared_etcd: EtcdCluster, prefix: str) -> Records:
    return Records(shared_etcd, prefix)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path) as daemon:
        yield daemon


@pytest.mark.long
@pytest.mark.parametrize("how", ["told", "lost"])
def test_B7_2000_starts_in_a_burst(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str, figure: Figure, how: str
) -> None:
    """Whether all of their events come at once or none at all, the next full look puts everything right.

    Each of them is looked at and written then, some 5 ms of a processor; how long that takes is the machine's to say,
    that one look is enough is registrar's.
    """
    names = [f"c{number}" for number in range(BURST)]
    records = HostRecords(shared_etcd, prefix, {"first", *names})
    fake.start("first", "9999:80/tcp")
    with host_registrar(shared_etcd, prefix, docker=fake.url) as program:
        records.are_of(["first"], seconds=60)
        fake.deaf = how == "lost"
        for number, name in enumerate(names):
            fake.start(name, f"{10000 + number}:80/tcp")
        last, before, looks = time.monotonic(), cpu_seconds(program.pid), fake.requests["inspect"]
        records.are_of(["first", *names], seconds=RESYNC + LOOKS)
        took, work = time.monotonic() - last, cpu_seconds(program.pid) - before
        again = (took // RESYNC + 1) * (BURST + 1)  # full looks that came meanwhile
        assert fake.requests["inspect"] - looks <= BURST + again
    figure(
        f"{BURST} starts, events {how}: right {took:.1f} s after the last one, {work:.1f} s of them registrar's work"
    )


@pytest.mark.long
def test_B7_200_real_starts_while_the_stream_stands_still(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, figure: Figure
) -> None:
    """A proxy before the daemon lets nothing through for the 5 s of a burst, then breaks off: every event is lost."""
    with (
        Crowd(200, 20) as crowd,
        FaultProxy(HOST_SOCKET) as daemon,
        host_registrar(shared_etcd, prefix, docker=daemon.url) as program,
    ):
        records = HostRecords(shared_etcd, prefix, set(crowd.names))
        crowd.start(crowd.names[:1])
        records.are_of(crowd.names[:1])
        daemon.mute()
        began = time.monotonic()
        crowd.start(crowd.names[1:])
        time.sleep(max(0.0, began + 5 - time.monotonic()))
        daemon.cut()
        daemon.restore()
        last = time.monotonic()
        records.are_of(crowd.names, seconds=RESYNC)
        figure(
            f"200 real starts unheard in {last - began:.1f} s: right {time.monotonic() - last:.1f} s after the stall"
        )
        assert program.process.poll() is None


@pytest.mark.long
def test_B9_50_crashes(docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure) -> None:
    """One after another as fast as the daemon does them: at most three writes a cycle, and none of them is stale."""
    cycles = 50
    name = docker.run("-p", "80")
    client = APIClient(HOST_SOCKET, version="auto", timeout=60)
    with registrar(shared_etcd, prefix, name), watched(shared_etcd, prefix) as watch:
        records.appears(name)
        began = time.monotonic()
        for _ in range(cycles):
            client.restart(name, timeout=0)
        took = time.monotonic() - began
        records.appears(name, seconds=1, port=docker.port(name), state=None)
        docker("rm", "-f", name)
        records.vanishes(name, seconds=1)
        ups = [put for put in watch.puts() if "state" not in put.record]
        figure(f"{cycles} cycles in {took:.0f} s: {len(watch.changes)} writes, no record left")
        assert len(watch.deletes()) <= cycles + 1
        assert len(ups) <= cycles + 1
        assert len(watch.changes) <= 3 * (cycles + 1)
    client.close()


def test_B10_podmans_spellings(fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str, figure: Figure) -> None:
    """`died` for `die`, and a bare `health_status` at every check, its value among the attributes."""
    records = HostRecords(shared_etcd, prefix, {"web"})
    identity = fake.start("web", "8080:80/tcp")
    state = fake.containers[identity]["State"]
    state["Health"] = {"Status": "healthy", "Log": []}
    took = []

    def tell(status: str, *expected: str) -> None:
        state["Health"] = {"Status": status, "Log": []}
        fake.say("health_status", "web", health_status=status)
        began = time.monotonic()
        records.are_of(expected, seconds=1)
        took.append(time.monotonic() - began)

    with host_registrar(shared_etcd, prefix, docker=fake.url):
        records.are_of(["web"])
        with watched(shared_etcd, prefix) as watch:
            tell("unhealthy")
            tell("healthy", "web")
            eventually(lambda: len(watch.changes) == 2, what="taken away and written again")
            looks = fake.requests["inspect"]
            for _ in range(5):
                fake.say("health_status", "web", health_status="healthy")
            eventually(lambda: fake.requests["inspect"] > looks)
            state |= {"Status": "exited", "Running": False}
            fake.say("died", "web", containerExitCode="137")
            began = time.monotonic()
            records.are_of([], seconds=1)
            took.append(time.monotonic() - began)
            eventually(lambda: len(watch.changes) == 3, what="taken away, and nothing more")
    figure(f"Podman's words: heeded within {max(took) * 1000:.0f} ms")


@pytest.mark.long
def test_B11_a_daemon_that_accepts_and_never_replies(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """Given up within ten seconds; for longer than a lease nothing is written; what happened meanwhile is found out."""
    name = docker.run("-p", "80")
    with (
        FaultProxy(HOST_SOCKET) as daemon,
        registrar(shared_etcd, prefix, name, docker=daemon.url) as program,
    ):
        first = records.appears(name)
        with watched(shared_etcd, prefix) as watch:
            daemon.mute()
            began = time.monotonic()
            program.wait_for("docker is away, what is registered stays", 20)
            noticed = time.monotonic() - began
            time.sleep(12)  # longer than the lease: the rule is that nothing happens
            assert watch.changes == []
            assert records.get(name) == first
            docker("restart", "-t", "0", name)
            daemon.restore()
            began = time.monotonic()
            records.appears(name, seconds=10, port=docker.port(name), state=None)
            back = time.monotonic() - began
        assert noticed < 11
        assert "Traceback" not in program.log
    figure(f"silence noticed after {noticed:.1f} s, lease kept, right {back:.1f} s after the daemon answered again")


@pytest.mark.long
def test_B11_a_proxy_that_cuts_the_stream(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """As docker-socket-proxy does every ten minutes, here ten times in a row: nothing is written, nothing is missed."""
    name = docker.run("-p", "80")
    with (
        FaultProxy(HOST_SOCKET) as daemon,
        registrar(shared_etcd, prefix, name, docker=daemon.url) as program,
        watched(shared_etcd, prefix) as watch,
    ):
        records.appears(name)
        for cuts in range(1, 11):
            daemon.reset()
            program.wait_for("(?s)" + "docker is back.*" * cuts, 10)
        assert watch.summary() == ["up"]
        docker("pause", name)
        records.vanishes(name, seconds=1)
        watch.until("up", "DELETE")
    figure("10 streams cut: subscribed anew each time, 0 writes, the next event heeded within 1 s")
