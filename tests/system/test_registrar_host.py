"""registrar for a whole host: what is registered and how, whatever fails or is restarted; many at once elsewhere."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registrar.host_scene import HostRecords, host_registrar
from tests.registrar.scene import ADVERTISED, registrar, watched
from tests.support.docker_engine import Docker, unique
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, programs, status
from tests.support.waiting import eventually
from tests.system.containers import docker as run_docker
from tests.system.containers import image, logs

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path) as daemon:
        yield daemon


def test_pain_6_steady_containers_cause_no_event_at_heartbeats_and_resyncs(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """Eight seconds stand for the ten minutes of the complaint: eight resyncs, a dozen heartbeats of a short lease."""
    names = [docker.run("-p", "80") for _ in range(3)]
    records = HostRecords(shared_etcd, prefix, set(names))
    with host_registrar(shared_etcd, prefix, "--resync", "1", ttl=2):
        records.are_of(names)
        with watched(shared_etcd, prefix) as watch:
            time.sleep(8)  # the rule is that nothing happens for a time
            assert [str(change) for change in watch.changes if HostRecords.of(change.instance) in names] == []
        assert records.registered() == set(names)


def test_pain_1_what_went_while_nobody_looked_is_gone_within_one_sync(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """A lease of a minute would keep it so long; what another host wrote, and what stays, is left alone."""
    stays, goes, stops = docker.run("-p", "80"), docker.run("-p", "80"), docker.run("-p", "80")
    records = HostRecords(shared_etcd, prefix, {stays, goes, stops, "theirs"})
    shared_etcd.etcdctl("put", f"{prefix}tiny/there:theirs:80", '{"host": "10.9.9.9", "port": 80, "owner": "there"}')
    with host_registrar(shared_etcd, prefix, ttl=60) as first:
        records.are_of([stays, goes, stops, "theirs"])
        first.kill()
    docker("rm", "-f", goes)
    docker("kill", stops)
    with watched(shared_etcd, prefix) as watch, host_registrar(shared_etcd, prefix, ttl=60) as second:
        records.are_of([stays, "theirs"], seconds=10)
        second.wait_for("its container went while nobody looked")
        assert {HostRecords.of(change.instance) for change in watch.deletes()} == {goes, stops}


def test_pain_11_a_registrar_re_created_with_new_host_names_keeps_one_key_per_instance(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """In containers, by registrator's own command line, whose place for the socket and single dashes included."""
    if not run_docker("images", "--quiet", image("registrar")):
        pytest.fail("image missing: scripts/images registrar builds it", pytrace=False)
    names = [docker.run("-p", "80") for _ in range(3)]
    records = HostRecords(shared_etcd, prefix, set(names))
    uri = f"etcd://{','.join(url.removeprefix('http://') for url in shared_etcd.endpoints)}{prefix.rstrip('/')}"
    with watched(shared_etcd, prefix) as watch:
        keys = {key for life in range(4) for key in _one_life(docker, uri, records, gently=bool(life % 2))}
        mine = [change for change in watch.changes if HostRecords.of(change.instance) in names]
        assert len(keys) == len(names)
        assert [str(change) for change in mine if change.kind == "DELETE"] == []
        assert len(mine) == 4 * len(names)  # each life has a lease of its own, to which it ties every record once


def _one_life(docker: Docker, uri: str, records: HostRecords, *, gently: bool) -> set[str]:
    """The keys that stand when a registrar of a new name is stopped or killed, after it has written each."""
    with as_registrator(docker, f"h-{uuid.uuid4().hex[:6]}", uri) as name:
        eventually(lambda: all(f":{each}:80 at " in logs(name) for each in records.containers), 30, "all registered")
        if gently:
            docker("stop", name)
        records.are_of(records.containers)
        return set(records.all())


@contextlib.contextmanager
def as_registrator(docker: Docker, host: str, uri: str) -> Iterator[str]:
    """Started as registrator's documentation says, another image, and killed at the end."""
    name = docker.name("registrator")
    docker(
        *("run", "-d", "--name", name, "--net=host", "-h", host, "--volume=/var/run/docker.sock:/tmp/docker.sock"),
        *(image("registrar"), "-ip", ADVERTISED, "-ttl", "10", "-ttl-refresh", "5", "-resync", "600", uri),
    )
    try:
        yield name
    finally:
        docker("rm", "-f", name)


def test_pain_16_and_17_signals_drain_or_change_nothing_for_every_container(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    slow = ("sh", "-c", "trap 'sleep 2; exit 0' TERM; trap : HUP USR1; while :; do sleep 0.1; done")
    leaves, stays = docker.run("-p", "80", command=slow), docker.run("-p", "80", command=slow)
    records = HostRecords(shared_etcd, prefix, {leaves, stays})
    with host_registrar(shared_etcd, prefix), watched(shared_etcd, prefix) as watch:
        records.are_of([leaves, stays])
        docker("kill", "-s", "HUP", stays)
        docker("kill", "-s", "USR1", stays)
        docker("kill", "-s", "TERM", leaves)
        records.are_of([stays], seconds=2)
        key = next(key for key in records.all() if records.of(key) == leaves)
        assert records.all()[key]["state"] == "draining"
        docker("wait", leaves)
        eventually(lambda: key not in records.all(), 2)
        changed = [(HostRecords.of(change.instance), change.kind) for change in watch.changes]
        assert [kind for name, kind in changed if name == stays] == ["PUT"]
        assert [kind for name, kind in changed if name == leaves] == ["PUT", "PUT", "DELETE"]


def test_pain_8_an_address_that_comes_later_is_told_then_and_never_an_empty_one(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """`--internal --network`: the container is connected to that network only after its start."""
    network = unique("net")
    docker("network", "create", "--subnet", "10.213.77.0/24", network)
    try:
        name = docker.run("--expose", "80")
        records = HostRecords(shared_etcd, prefix, {name})
        with host_registrar(shared_etcd, prefix, "--internal", "--network", network) as program:
            program.wait_for(f"{name} is not in network {network}")
            assert records.all() == {}
            docker("network", "connect", network, name)
            records.are_of([name], seconds=2)
            (record,) = records.all().values()
            assert record["host"].startswith("10.213.77.")
            assert record["port"] == 80
            docker("network", "disconnect", network, name)
            eventually(lambda: records.all() == {}, 2)
    finally:
        docker("rm", "-f", name)
        docker("network", "rm", network)


def test_names_tags_and_protocols_are_in_the_records(docker: Docker, shared_etcd: EtcdCluster, prefix: str) -> None:
    name = docker.run(
        *("-p", "53/udp", "-p", "80", "-l", "SERVICE_80_NAME=web", "-e", "SERVICE_NAME=dns", "-e", "SERVICE_REGION=eu"),
        *("-l", r"SERVICE_TAGS=a\,b,c"),
    )
    ignored, hidden = docker.run("-p", "80", "-e", "SERVICE_IGNORE=1"), docker.run()
    records = HostRecords(shared_etcd, prefix, {name, ignored, hidden})
    with host_registrar(shared_etcd, prefix, "--tags", "z"):
        found = records.become(f"dns-53/here:{name}:53:udp", f"web/here:{name}:80")
        udp, tcp = (found[key] for key in sorted(found))
        assert (udp["protocol"], udp["tags"], udp["attributes"]) == ("udp", ["a,b", "c", "z", "udp"], {"region": "eu"})
        assert (tcp["host"], tcp["port"], tcp["tags"]) == (ADVERTISED, docker.port(name), ["a,b", "c", "z"])
        assert "protocol" not in tcp


def test_pain_19_explicit_registers_what_has_a_name_alone(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    named, unnamed = docker.run("-p", "80", "-e", "SERVICE_NAME=web"), docker.run("-p", "80")
    records = HostRecords(shared_etcd, prefix, {named, unnamed})
    admin = f"127.0.0.1:{free_port()}"
    with host_registrar(shared_etcd, prefix, "--explicit", "--admin", admin):
        records.become(f"web/here:{named}:80")
        why = [entry["why"] for entry in status(admin)["not_registered"] if entry["container"] == unnamed]
        assert why == [f"port 80/tcp of {unnamed} has no SERVICE_NAME, and only what has one is registered: --explicit"]
        metrics = fetch(f"http://{admin}/metrics")[1]
        assert 'amb_registrar_not_registered{reason="unnamed"}' in metrics


@pytest.mark.parametrize("silent", [False, True])
def test_pain_3_a_stream_that_breaks_off_costs_no_record_and_none_is_missed(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str, *, silent: bool
) -> None:
    """Also where the new stream says nothing."""
    fake.start("stays", "8080:80/tcp")
    records = HostRecords(shared_etcd, prefix, {"stays", "new"})
    with host_registrar(shared_etcd, prefix, docker=fake.url) as program, watched(shared_etcd, prefix) as watch:
        records.are_of(["stays"])
        pid = program.pid
        fake.deaf = True
        fake.start("new", "8081:80/tcp")
        fake.deaf = silent
        fake.cut()
        records.are_of(["stays", "new"])
        assert program.process.poll() is None
        assert program.pid == pid
        assert [(change.kind, HostRecords.of(change.instance)) for change in watch.changes] == [
            ("PUT", "stays"),
            ("PUT", "new"),
        ]


def test_pain_4_and_7_starts_and_stops_during_the_first_sync_and_during_resyncs(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """A slow engine, a list each second, and 300 changes in between: no key outlives its container."""
    names = [f"c{number}" for number in range(80)]
    for number, name in enumerate(names[:50]):
        fake.start(name, f"{10000 + number}:80/tcp")
    fake.slow = 0.02
    records = HostRecords(shared_etcd, prefix, set(names))
    with host_registrar(shared_etcd, prefix, "--resync", "1", docker=fake.url):
        eventually(lambda: fake.requests["inspect"] > 5)
        for number, name in enumerate(names[50:]):
            fake.start(name, f"{20000 + number}:80/tcp")
        records.are_of(names, seconds=20)
        for again in range(5):
            for number, name in enumerate(names[:30]):
                fake.remove(name)
                if (number + again) % 3:
                    fake.start(name, f"{30000 + number}:80/tcp")
            gone = {name for number, name in enumerate(names[:30]) if not (number + again) % 3}
            records.are_of(set(names) - gone, seconds=10)
            for number, name in enumerate(names[:30]):
                if name in gone:
                    fake.start(name, f"{30000 + number}:80/tcp")
        records.are_of(names, seconds=10)


def test_two_containers_that_claim_one_id_are_told_apart_and_the_second_takes_over(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    labels = {"SERVICE_NAME": "web", "SERVICE_ID": "here:only:80"}
    fake.start("first", "8080:80/tcp", labels=labels)
    records = HostRecords(shared_etcd, prefix, {"only"})
    with host_registrar(shared_etcd, prefix, docker=fake.url) as program:
        eventually(lambda: records.all()["web/here:only:80"]["port"] == 8080 if records.all() else False)
        fake.start("second", "8081:80/tcp", labels=labels)
        program.wait_for("not registered: web/here:only:80 is taken by first")
        assert records.all()["web/here:only:80"]["port"] == 8080
        fake.remove("first")
        eventually(lambda: records.all()["web/here:only:80"]["port"] == 8081)


def test_a_whole_host_and_one_container_can_be_registered_side_by_side(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """The one's records are not orphans to the other, though both are this host's."""
    name = docker.run("-p", "80")
    records = HostRecords(shared_etcd, prefix, {name})
    single = registrar(shared_etcd, prefix, name, "--host-id", "here")
    with programs(single, host_registrar(shared_etcd, prefix, "--resync", "1")), watched(shared_etcd, prefix) as watch:
        records.are_of([name])
        single.wait_for(f"registered redis-A/{name}")
        time.sleep(3)  # three resyncs, in which nothing is deleted
        assert watch.deletes() == []


def test_stopping_it_leaves_the_records_to_their_lease_unless_told_otherwise(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    name = docker.run("-p", "80")
    records = HostRecords(shared_etcd, prefix, {name})
    with host_registrar(shared_etcd, prefix, ttl=60) as program:
        records.are_of([name])
        assert program.stop() == 0
        assert records.registered() == {name}
        assert "left to its lease" in program.log
    with host_registrar(shared_etcd, prefix, "--on-exit", "deregister") as program:
        program.wait_for(f"registered tiny/here:{name}:80")
        assert program.stop() == 0
        assert records.registered() == set()


def test_pain_13_and_14_what_changes_while_etcd_is_away_is_right_when_it_is_back(
    fake: FakeDocker, tmp_path: Path, prefix: str
) -> None:
    """It may be away from the start; and its lease be lost over it."""
    for name in ("stays", "goes"):
        fake.start(name, "8080:80/tcp")
    with EtcdCluster(tmp_path, size=1) as etcd:
        etcd.members[0].kill()
        records = HostRecords(etcd, prefix, {"stays", "goes", "comes"})
        with host_registrar(etcd, prefix, docker=fake.url, ttl=2) as program:
            program.wait_for(r"WARNING .*etcd")
            etcd.start()
            records.are_of(["stays", "goes"])
            etcd.members[0].kill()
            fake.remove("goes")
            fake.start("comes", "8081:80/tcp")
            time.sleep(3)  # longer than the lease
            etcd.start()
            records.are_of(["stays", "comes"])
            assert program.process.poll() is None
            assert "Traceback" not in program.log


def test_an_engine_that_calls_itself_something_else_each_time_is_known_by_its_host_name(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """As Podman does. Were its id the owner's name, the next registrar would take these records for another host's."""
    fake.like_podman = True
    fake.start("web", "8080:80/tcp")
    records = HostRecords(shared_etcd, prefix, {"web"})
    with without(host_registrar(shared_etcd, prefix, docker=fake.url), "--host-id"):
        records.are_of(["web"])
        assert {record["owner"] for record in records.all().values()} == {"fakehost"}
        assert list(records.all()) == ["tiny/fakehost:web:80"]


def test_pain_10_without_an_address_for_others_nothing_is_registered_and_one_line_says_what_to_set(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str
) -> None:
    """One, however many containers the host has: the route to this etcd leaves from loopback."""
    for number in range(5):
        fake.start(f"c{number}", f"{8000 + number}:80/tcp")
    records = HostRecords(shared_etcd, prefix, {f"c{number}" for number in range(5)})
    admin = f"127.0.0.1:{free_port()}"
    with without(host_registrar(shared_etcd, prefix, "--admin", admin, docker=fake.url), "--advertise") as program:
        program.wait_for(r"not registered: the route to etcd leaves from 127\.0\.0\.1, .*: set --advertise")
        assert len(status(admin)["not_registered"]) == 5
        assert records.all() == {}
        assert program.log.count("not registered") == 1


def without(program: Program, option: str) -> Program:
    """The same without an option that has a value."""
    at = program.arguments.index(option)
    program.arguments = program.arguments[:at] + program.arguments[at + 2 :]
    return program
