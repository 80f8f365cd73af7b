"""The registrar's part of the fault matrix: each test bears its fault's id."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ambcore.registration.extract import nanoseconds
from tests.registrar.scene import ADVERTISED, Records, registrar, watched
from tests.support.docker_engine import Docker, OwnEngine
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program, fetch
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]

TTL = 3
RETURN = 6  # long enough for a process to begin on a machine that has others to run


@pytest.fixture
def records(shared_etcd: EtcdCluster, prefix: str) -> Records:
    return Records(shared_etcd, prefix)


def test_B1_kill_9(docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure) -> None:
    """The record outlives its registrar by the lease and no longer: TTL from the last renewal, which was at most TTL/3
    ago, plus 1.5 s for etcd's own tick.
    """
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name, ttl=TTL) as program:
        records.appears(name)
        program.kill()
        killed = time.monotonic()
        records.vanishes(name, seconds=TTL + 2)
        took = time.monotonic() - killed
        figure(f"lease of {TTL} s: gone {took:.1f} s after the kill")
        assert TTL * 2 / 3 - 0.1 <= took <= TTL + 1.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_B2_graceful_stop(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure, *, number: signal.Signals
) -> None:
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name) as program, watched(shared_etcd, prefix) as watch:
        records.appears(name)
        program.signal(number)
        told = time.time()
        assert program.process.wait(5) == 0
        eventually(watch.deletes, 1)
        took = watch.deletes()[0].when - told
        figure(f"{number.name}: deregistered after {took * 1000:.0f} ms")
        assert took < 1


@pytest.mark.parametrize("how", ["killed", "suspended"])
def test_B2_graceful_stop_without_etcd(docker: Docker, tmp_path: Path, prefix: str, figure: Figure, how: str) -> None:
    name = docker.run("-p", "80")
    with EtcdCluster(tmp_path, size=1) as etcd, registrar(etcd, prefix, name) as program:
        Records(etcd, prefix).appears(name)
        etcd.members[0].kill() if how == "killed" else etcd.members[0].suspend()
        began = time.monotonic()
        assert program.stop(5.5) == 0
        took = time.monotonic() - began
        figure(f"etcd {how}: ended after {took:.1f} s")
        assert took < 5
        assert "Traceback" not in program.log


@pytest.mark.parametrize("how", ["killed", "upgraded"])
def test_B3_restart_no_flap(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure, *, how: str
) -> None:
    """A registrar that comes back within the TTL, after a crash or by `--on-exit keep`, adopts its record: no DELETE,
    and the record stands after the old lease has run out.
    """
    name = docker.run("-p", "80")
    with watched(shared_etcd, prefix) as watch:
        with registrar(shared_etcd, prefix, name, "--on-exit", "keep", ttl=RETURN) as program:
            first = records.appears(name)
            program.kill() if how == "killed" else program.stop()
        with registrar(shared_etcd, prefix, name, ttl=RETURN):
            eventually(lambda: records.appears(name)["epoch"] != first["epoch"], RETURN)
            time.sleep(RETURN + 1.5)  # the rule is that nothing happens for so long
            figure(f"{how}: {len(watch.deletes())} deletions, {len(watch.puts()) - 1} write by the next life")
            watch.until("up", "up")
            assert records.appears(name)["port"] == first["port"]


def test_B4_two_registrars(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """Two with one host id do not fight: one has the record, the other says so and leaves it alone. After a change each
    may write once, both write the same, and that may be a takeover once more.
    """
    name = docker.run("-p", "80")
    older, newer = (registrar(shared_etcd, prefix, name, "--resync", "1", ttl=2) for _ in range(2))
    with watched(shared_etcd, prefix) as watch, older:
        first = records.appears(name)["epoch"]
        with newer:
            newer.wait_for("registered")
            assert records.appears(name)["epoch"] != first
            docker("restart", "-t", "0", name)
            records.appears(name, port=docker.port(name))
            time.sleep(0.5)  # for a second writer that comes late
            written = len(watch.changes)
            time.sleep(2.5)  # longer than the TTL and two resyncs: nobody writes any more
            assert len(watch.changes) == written <= 2 + 2 * 3, watch.summary()
            figure(f"{written} writes for a registration, a take-over and a restart; then none")
            said = "was taken over by another registrar of this host"
            assert older.log.count(said) >= 1
            assert older.log.count(said) + newer.log.count(said) <= 2
            assert list(records.all()) == [name]
            assert records.appears(name)["port"] == docker.port(name)


def test_B5_zombie_wakes(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """Suspended for three TTLs, the first wakes with a dead lease while a second of its host has registered."""
    ttl = 2
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name, ttl=ttl) as zombie:
        records.appears(name)
        zombie.signal(signal.SIGSTOP)
        records.vanishes(name, seconds=ttl + 2)
        with registrar(shared_etcd, prefix, name, ttl=ttl), watched(shared_etcd, prefix) as watch:
            newer = records.appears(name)
            time.sleep(ttl)  # the rest of the three TTLs
            zombie.signal(signal.SIGCONT)
            zombie.wait_for(r"lease \w+ is gone")
            zombie.wait_for("was taken over by another registrar of this host")
            assert zombie.stop() == 0
            time.sleep(ttl)  # whatever the zombie left behind has run out by now
            assert records.get(name) == newer
            assert watch.summary() in ([], ["up"])
            figure("the newer record untouched, word for word")


@pytest.fixture
def own_engine(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    with OwnEngine(*getattr(request, "param", ())) as engine:
        yield engine


def test_B6_dockerd_restart(
    own_engine: OwnEngine, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """A daemon that takes its containers down with it: removed within two seconds, back within two of its start."""
    with Docker(own_engine.url) as docker:
        name = docker.run("-p", "80", "--restart", "always")
        with registrar(shared_etcd, prefix, name, docker=own_engine.url) as program:
            records.appears(name)
            with watched(shared_etcd, prefix) as watch:
                began = time.time()
                own_engine.stop()
                eventually(watch.deletes, 3)
                gone = watch.deletes()[0].when - began
                assert gone < 2
            program.wait_for("docker is away, what is registered stays")
            own_engine.start()
            began = time.time()
            records.appears(name, seconds=2, port=docker.port(name), host=ADVERTISED)
            figure(f"removed {gone:.2f} s after the daemon's end, back {time.time() - began:.2f} s after its start")
            program.wait_for("docker is back")
            assert program.log.count("docker is away") == 1
            assert program.process.poll() is None


@pytest.mark.parametrize("own_engine", [("--live-restore",)], indirect=True)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_B6_dockerd_restart_with_live_restore(
    own_engine: OwnEngine,
    shared_etcd: EtcdCluster,
    prefix: str,
    records: Records,
    figure: Figure,
    *,
    how: signal.Signals,
) -> None:
    """Containers that survive their daemon stay registered, without a single change."""
    with Docker(own_engine.url) as docker:
        name = docker.run("-p", "80")
        with registrar(shared_etcd, prefix, name, docker=own_engine.url) as program:
            before = records.appears(name)
            with watched(shared_etcd, prefix) as watch:
                own_engine.stop(how)
                program.wait_for("docker is away, what is registered stays")
                own_engine.start()
                program.wait_for("docker is back")
                assert docker.inspect(name)["State"]["Running"]
                docker("kill", "-s", "WINCH", name)  # heard in order: whatever came before was seen
                docker("pause", name)
                records.vanishes(name)
                watch.until("DELETE")
                figure(f"live-restore, {how.name}: 0 writes")
                docker("unpause", name)
                assert records.appears(name)["port"] == before["port"]


def test_B6_a_container_that_died_with_the_daemon_is_removed_when_it_is_back(
    own_engine: OwnEngine, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    """A daemon killed outright says nothing of its containers' end; it knows when it starts."""
    with Docker(own_engine.url) as docker:
        name = docker.run("-p", "80")
        with registrar(shared_etcd, prefix, name, docker=own_engine.url) as program:
            records.appears(name)
            own_engine.stop(signal.SIGKILL)
            program.wait_for("docker is away")
            assert records.get(name) is not None
            own_engine.start()
            records.vanishes(name, seconds=6)


def test_B8_port_change(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """`docker restart` of a container with an ephemeral port: the new one within a second of the start, the old one
    never after the death.
    """
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name), watched(shared_etcd, prefix) as watch:
        old, took = records.appears(name)["port"], []
        for _ in range(3):
            docker("restart", name)
            new = docker.port(name)
            assert new != old
            records.appears(name, seconds=1, port=new)
            started = nanoseconds(docker.inspect(name)["State"]["StartedAt"]) / 1e9
            of_new = watch.put_with(port=new)
            after = watch.changes[watch.changes.index(of_new) :]
            assert not any(change.record.get("port") == old for change in after)
            took.append(of_new.when - started)
            old = new
        # It ends at once when told to: by the time that "draining" could be written it may have ended.
        assert [state for state in watch.summary() if state != "draining"] == ["up", *["DELETE", "up"] * 3]
    figure(f"the new port at most {max(took) * 1000:.0f} ms after the start, the old one never again")


def test_B9_crash_loop(docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records) -> None:
    """A dozen deaths and starts as fast as Docker does them: no stale record at the end, and no more than one removal
    and one registration a cycle.
    """
    name = docker.run("-p", "80")
    cycles = 12
    with registrar(shared_etcd, prefix, name), watched(shared_etcd, prefix) as watch:
        records.appears(name)
        for _ in range(cycles):
            docker("restart", "-t", "0", name)
        records.appears(name, seconds=1, port=docker.port(name))
        docker("rm", "-f", name)
        records.vanishes(name, seconds=1)
        assert len(watch.deletes()) <= cycles + 1
        assert len([put for put in watch.puts() if "state" not in put.record]) <= cycles + 1


HEALTHY_WHILE_OK = (
    *("--health-cmd", "test -e /tmp/ok", "--health-interval", "200ms"),
    *("--health-retries", "1", "--health-start-period", "60s"),
)


def test_B10_pause_and_network(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """A disconnected network is out, too: what it published leads nowhere."""
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name):
        records.appears(name)
        docker("pause", name)
        records.vanishes(name, seconds=1)
        docker("unpause", name)
        records.appears(name, seconds=1)
        docker("network", "disconnect", "bridge", name)
        records.vanishes(name, seconds=1)
        docker("network", "connect", "bridge", name)
        records.appears(name, seconds=1, port=docker.port(name))
    figure("pause, unpause, disconnect, connect: each heeded within 1 s")


def test_B10_health(docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records) -> None:
    name = docker.run("-p", "80", *HEALTHY_WHILE_OK)
    with registrar(shared_etcd, prefix, name) as program:
        program.wait_for("has not passed its health check yet")
        assert records.get(name) is None
        docker("exec", name, "touch", "/tmp/ok")
        records.appears(name, seconds=2)
        docker("exec", name, "rm", "/tmp/ok")
        records.vanishes(name, seconds=2)
        program.wait_for("fails its health check")
        docker("exec", name, "touch", "/tmp/ok")
        records.appears(name, seconds=2)


def test_B7_event_loss(docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records) -> None:
    """A registrar that slept through every event is right within its resync."""
    name, resync = docker.run("-p", "80"), 2.0
    with registrar(shared_etcd, prefix, name, "--resync", str(resync), ttl=60) as program:
        records.appears(name)
        program.signal(signal.SIGSTOP)
        for _ in range(3):
            docker("restart", "-t", "0", name)
        program.signal(signal.SIGCONT)
        records.appears(name, seconds=resync + 1, port=docker.port(name))


def test_losing_the_lease_puts_the_record_back(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    """Whoever revokes it, or an outage longer than it: within a heartbeat the record stands under a new lease."""
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name, ttl=TTL) as program:
        before = records.appears(name)
        lease = program.wait_for(r"lease (\w+) granted")[1]
        shared_etcd.etcdctl("lease", "revoke", lease)
        records.vanishes(name)
        assert records.appears(name, seconds=TTL / 3 + 1) == before
        program.wait_for(rf"lease {lease} is gone")
        assert _alive(program)


@contextlib.contextmanager
def _starved(program: Program) -> Iterator[None]:
    """Less than a twentieth of a processor, in slices of 10 ms, for as long as the block runs.

    The pauses differ, so that no timer of the program falls in step with the slices.
    """
    fed = threading.Event()
    pauses = itertools.cycle((0.13, 0.17, 0.19, 0.23, 0.29))

    def starve() -> None:
        while not fed.is_set():
            program.signal(signal.SIGSTOP)
            fed.wait(next(pauses))
            program.signal(signal.SIGCONT)
            fed.wait(0.01)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        fed.set()
        thread.join()


def test_B13_cpu_starve(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, figure: Figure
) -> None:
    """For two lifetimes of its lease the registrar keeps it, and its metric shows how late it is."""
    name, admin = docker.run("-p", "80"), f"127.0.0.1:{free_port()}"
    with registrar(shared_etcd, prefix, name, "--admin", admin, ttl=TTL) as program:
        records.appears(name)
        lags = []
        with watched(shared_etcd, prefix) as watch, _starved(program):
            end = time.monotonic() + 2 * TTL
            while time.monotonic() < end:
                text = fetch(f"http://{admin}/metrics")[1]
                found = re.search(r"^amb_loop_lag_seconds (\S+)", text, re.MULTILINE)
                assert found is not None
                lags.append(float(found[1]))
        assert watch.changes == []
        assert "is gone" not in program.log
        assert max(lags) > 0.05, lags
    figure(f"lease of {TTL} s kept for {2 * TTL} s in slices of 10 ms; lag up to {max(lags):.2f} s")


def _alive(program: Program) -> bool:
    return program.process.poll() is None
