"""registrar on a host with hundreds of containers, half of a hundred of which come and go at once."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.registrar.host_scene import HostRecords, host_registrar
from tests.registrar.scene import Watched, watched
from tests.support.crowd import Crowd
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.ports import free_port
from tests.support.programs import fetch, rss_mib, status
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

CROWD, BURST = 200, 50
PUBLISHED = 30  # of the crowd
RIGHT_WITHIN = 5.0  # seconds after the last event


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path) as daemon:
        yield daemon


def touched(watch: Watched, steady: Sequence[str]) -> list[str]:
    """The changes of these containers' records."""
    return [str(change) for change in watch.changes if HostRecords.of(change.instance) in steady]


def test_a_host_with_200_containers_and_a_burst_of_50_starts_and_50_stops(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """Right within five seconds of the last event, and not one write for a container that nothing happened to."""
    admin = f"127.0.0.1:{free_port()}"
    with Crowd(CROWD + BURST, PUBLISHED) as crowd:
        names, there, later = crowd.names, crowd.names[:CROWD], crowd.names[CROWD:]
        records = HostRecords(shared_etcd, prefix, set(names))
        crowd.start(there)
        with host_registrar(shared_etcd, prefix, "--admin", admin) as program:
            records.are_of(there, seconds=30)
            eventually(lambda: fetch(f"http://{admin}/readyz")[0] == 200)
            with watched(shared_etcd, prefix) as watch:
                leave = there[:BURST]  # the published ones, and some others
                with concurrent.futures.ThreadPoolExecutor(1) as beside:
                    starts = beside.submit(crowd.start, later)
                    crowd.kill(leave)
                    starts.result()
                last = time.monotonic()
                records.are_of([*there[BURST:], *later], seconds=RIGHT_WITHIN)
                took = time.monotonic() - last
                assert touched(watch, there[BURST:]) == []
                assert len(watch.deletes()) >= BURST
            document = status(admin)
            assert document["ready"]
            mine = {entry["container"] for entry in document["registered"]} & set(names)
            assert mine == {*there[BURST:], *later}
            stopped = [entry for entry in document["not_registered"] if entry["container"] in leave]
            assert {entry["state"] for entry in stopped} == {"not-running"}
            assert len(stopped) == BURST
            assert rss_mib(program.pid) <= 100
            print(f"right {took:.2f} s after the last event; {rss_mib(program.pid):.0f} MiB")  # noqa: T201


def crowd_of(fake: FakeDocker) -> list[str]:
    """A crowd that runs; their names, and those of as many more as a burst will start."""
    names = [f"c{number}" for number in range(CROWD + BURST)]
    for number, name in enumerate(names[:CROWD]):
        fake.start(name, f"{10000 + number}:80/tcp")
    return names


def burst(fake: FakeDocker, names: list[str]) -> None:
    """The last of the names start, the first are removed."""
    for number in range(BURST):
        fake.start(names[CROWD + number], f"{20000 + number}:80/tcp")
        fake.remove(names[number])


def test_a_host_with_200_containers_of_recorded_answers(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """The same where the engine costs nothing: what is left is registrar's own time. And it stays calm at resyncs."""
    names = crowd_of(fake)
    records = HostRecords(shared_etcd, prefix, set(names))
    with host_registrar(shared_etcd, prefix, "--resync", "1", docker=fake.url):
        records.are_of(names[:CROWD], seconds=30)
        with watched(shared_etcd, prefix) as watch:
            burst(fake, names)
            records.are_of(names[BURST:], seconds=RIGHT_WITHIN)
            lists = fake.requests["list"]
            eventually(lambda: fake.requests["list"] >= lists + 3)
            assert touched(watch, names[BURST:CROWD]) == []
            assert len(watch.deletes()) == BURST


def test_pain_2_with_all_events_dropped_it_is_right_within_one_resync(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    names = crowd_of(fake)
    records = HostRecords(shared_etcd, prefix, set(names))
    with host_registrar(shared_etcd, prefix, "--resync", "3", docker=fake.url):
        records.are_of(names[:CROWD], seconds=30)
        fake.deaf = True
        burst(fake, names)
        # A list may have been under way: the next one has it, and then each is to be looked at and written.
        lists = fake.requests["list"]
        records.are_of(names[BURST:], seconds=3 + RIGHT_WITHIN)
        assert fake.requests["list"] <= lists + 2
