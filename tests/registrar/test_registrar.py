"""The whole program against real Docker and real etcd: one record, there when the container serves and only then."""

from __future__ import annotations

import json
import re
import signal
import statistics
import time
from pathlib import Path

import pytest

from ambcore.registration.extract import nanoseconds
from ambcore.schema import decode_record
from tests.registrar.scene import ADVERTISED, SERVICE, Records, registrar, watched
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import fetch, programs, rss_mib, status
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

SLOW_TO_END = ("sh", "-c", "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
def records(shared_etcd: EtcdCluster, prefix: str) -> Records:
    return Records(shared_etcd, prefix)


def test_a_container_is_registered_whether_it_runs_already_or_comes_later(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    early, late = docker.run("-p", "80"), docker.name()
    with programs(registrar(shared_etcd, prefix, early), registrar(shared_etcd, prefix, late)):
        records.appears(early, host=ADVERTISED, port=docker.port(early))
        assert records.get(late) is None
        docker.run("-p", "80", name=late)
        records.appears(late, seconds=1.5, host=ADVERTISED, port=docker.port(late))


def test_the_record_has_host_and_port_first_and_says_whose_it_is(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name) as program:
        record = records.appears(name)
        value = shared_etcd.etcdctl("get", "--print-value-only", f"{prefix}{SERVICE}/{name}")
        assert value.startswith(f'{{"host": "{ADVERTISED}", "port": {docker.port(name)}, ')
        info = json.loads(docker("info", "--format", "{{json .}}"))
        assert record["owner"] == f"{info['Name']}:{info['ID'][:12]}"
        assert record["container"] == docker.inspect(name)["Id"]
        instance = decode_record(f"{prefix}{SERVICE}/{name}".encode(), value.strip().encode(), prefix)
        assert instance.takes_new
        program.wait_for(rf"registered {SERVICE}/{name} at {ADVERTISED}:{docker.port(name)}")


def test_a_bindings_own_address_is_published_as_it_is(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    own = next(word for word in _addresses() if not word.startswith(("127.", "172.")))
    name = docker.run("-p", f"{own}::80")
    with registrar(shared_etcd, prefix, name):
        records.appears(name, host=own, port=docker.port(name))


def _addresses() -> list[str]:
    return re.findall(r"\|-- (\S+)\s+/32 host LOCAL", Path("/proc/net/fib_trie").read_text())


def test_a_port_on_loopback_is_refused_and_the_log_says_why(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "127.0.0.1::80")
    with registrar(shared_etcd, prefix, name) as program:
        program.wait_for(r"not registered: published on 127\.0\.0\.1 only, .* publish it on an address of this host")
        assert records.all() == {}
        assert program.log.count("not registered") == 1


def test_without_a_word_from_the_operator_a_loopback_route_is_refused_and_the_log_says_what_to_set(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "80")
    program = registrar(shared_etcd, prefix, name)
    at = program.arguments.index("--advertise")
    program.arguments = program.arguments[:at] + program.arguments[at + 2 :]
    with program:
        program.wait_for(r"not registered: the route to etcd leaves from 127\.0\.0\.1, .*: set --advertise")
        assert records.all() == {}


def test_removal_and_re_creation_are_followed_by_name(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "80")
    with registrar(shared_etcd, prefix, name):
        first = records.appears(name)
        docker("rm", "-f", name)
        records.vanishes(name, seconds=1)
        docker.run("-p", "80", name=name)
        second = records.appears(name, seconds=1.5, port=docker.port(name))
        assert second["container"] != first["container"]


def test_a_rename_is_followed(docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records) -> None:
    before, wanted, after = docker.run("-p", "80"), docker.name(), docker.name()
    with registrar(shared_etcd, prefix, wanted) as program:
        program.wait_for("not registered")
        docker("rename", before, wanted)
        records.appears(wanted, seconds=1)
        docker("rename", wanted, after)
        records.vanishes(wanted, seconds=1)


def test_a_stop_marks_the_record_draining_while_the_container_still_serves(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "80", command=SLOW_TO_END)
    with registrar(shared_etcd, prefix, name), watched(shared_etcd, prefix) as watch:
        records.appears(name)
        docker("kill", "-s", "TERM", name)
        records.appears(name, seconds=1, state="draining", port=docker.port(name))
        assert docker.inspect(name)["State"]["Running"]
        docker("wait", name)
        records.vanishes(name, seconds=1)
        watch.until("up", "draining", "DELETE")


def test_a_signal_that_ends_nothing_changes_nothing(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    """`docker kill -s HUP` reloads; the end of the list shows that all of it was heard."""
    name = docker.run("-p", "80", command=("sh", "-c", "trap : HUP USR1 WINCH; while :; do sleep 0.1; done"))
    with registrar(shared_etcd, prefix, name), watched(shared_etcd, prefix) as watch:
        records.appears(name)
        for number in ("HUP", "USR1", "WINCH"):
            docker("kill", "-s", number, name)
        docker("pause", name)
        records.vanishes(name, seconds=1)
        watch.until("up", "DELETE")


def test_it_waits_for_etcd_and_docker_and_says_so_once(docker: Docker, tmp_path: Path, prefix: str) -> None:
    name = docker.run("-p", "80")
    with EtcdCluster(tmp_path, size=1) as etcd:
        etcd.members[0].kill()
        admin = f"127.0.0.1:{free_port()}"
        with registrar(etcd, prefix, name, "--admin", admin) as program:
            program.wait_for(r"WARNING .*etcd")
            eventually(lambda: fetch(f"http://{admin}/readyz") == (503, "etcd was not reached yet\n"))
            assert fetch(f"http://{admin}/healthz")[0] == 200
            etcd.start()
            Records(etcd, prefix).appears(name, seconds=8)
            assert program.log.count("Traceback") == 0
            assert len(program.log.splitlines()) < 12
    with registrar("http://127.0.0.1:1", prefix, name, docker=f"unix://{tmp_path}/none") as program:
        program.wait_for(r"docker is away, .*: unix://.*/none: No such file or directory")
        assert program.stop() == 0
        assert program.log.count("docker is away") == 1


def test_an_outage_of_etcd_is_one_line_and_its_end_another(docker: Docker, tmp_path: Path, prefix: str) -> None:
    """However many parts of registrar need etcd, and whatever is to be written meanwhile."""
    name = docker.run("-p", "80")
    admin = f"127.0.0.1:{free_port()}"
    with EtcdCluster(tmp_path, size=1) as etcd, registrar(etcd, prefix, name, "--admin", admin, ttl=2) as program:
        Records(etcd, prefix).appears(name)
        program.wait_for("registered")
        before = len(program.lines)
        etcd.members[0].kill()
        docker("restart", "-t", "0", name)
        eventually(lambda: status(admin)["lease"]["state"] == "suspect")
        outage = program.lines[before:]
        etcd.start()
        Records(etcd, prefix).appears(name, port=docker.port(name))
        program.wait_for("connected to etcd.*\n(?s:.*)connected to etcd")
        assert [line.split()[0] for line in outage] == ["WARNING"], outage
        assert "come back with etcd" in outage[0]


def test_a_container_restarted_during_an_outage_of_etcd_is_registered_after_it(
    docker: Docker, tmp_path: Path, prefix: str
) -> None:
    """With a fixed port its record is the same as before: the removal that was wished between must not be the last."""
    name = docker.run("-p", f"{free_port()}:80")
    with (
        EtcdCluster(tmp_path, size=1) as etcd,
        registrar(etcd, prefix, name, "--log-level", "debug", ttl=60) as program,
    ):
        Records(etcd, prefix).appears(name)
        etcd.members[0].kill()
        docker("kill", name)
        program.wait_for("trying on: ")  # to mark it draining; the removal is next
        docker("start", name)
        program.wait_for("(?s)trying on: .*trying on: ")
        etcd.start()
        program.wait_for("(?s)connected to etcd.*connected to etcd")
        time.sleep(2)  # four times as long as what waits to be written or deleted is put off
        assert Records(etcd, prefix).appears(name, seconds=1, state=None)


def test_a_user_without_permission_is_said_in_one_line_and_health_turns_red_until_it_is_granted(
    docker: Docker, tmp_path: Path, prefix: str
) -> None:
    name = docker.run("-p", "80")
    password = tmp_path / "password"
    password.write_text("secret\n")
    admin = f"127.0.0.1:{free_port()}"
    with EtcdCluster(tmp_path, size=1) as etcd:
        etcd.etcdctl("role", "add", "host-a")
        etcd.etcdctl("role", "grant-permission", "host-a", "--prefix=true", "read", prefix)
        for user in ("root", "host-a"):
            etcd.etcdctl("user", "add", f"{user}:secret")
            etcd.etcdctl("user", "grant-role", user, user)
        etcd.etcdctl("auth", "enable")
        etcd.environment["ETCDCTL_USER"] = "root:secret"
        account = ("--etcd-user", "host-a", "--etcd-password-file", str(password))
        with registrar(etcd, prefix, name, *account, "--admin", admin) as program:
            eventually(lambda: fetch(f"http://{admin}/healthz")[0] == 503)
            assert "permission denied" in fetch(f"http://{admin}/healthz")[1]
            program.wait_for("permission denied")
            etcd.etcdctl("role", "grant-permission", "host-a", "--prefix=true", "readwrite", prefix)
            Records(etcd, prefix).appears(name, seconds=5)
            eventually(lambda: fetch(f"http://{admin}/healthz")[0] == 200)
            assert "secret" not in program.log
            assert program.log.count("permission denied") == 1, program.log


def test_heartbeats_change_nothing_in_etcd(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    """Three registrars with a short lease and a resync each second: for two lifetimes of the lease, no watch event."""
    names = [docker.run("-p", "80") for _ in range(3)]
    with programs(*(registrar(shared_etcd, prefix, name, "--resync", "1", ttl=2) for name in names)):
        for name in names:
            records.appears(name)
        with watched(shared_etcd, prefix) as watch:
            time.sleep(4)  # the rule is that nothing happens for a time
            assert watch.changes == []
            assert sorted(records.all()) == sorted(names)


def test_a_start_is_in_etcd_within_200_ms_at_the_median(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "80")
    delays = []
    with registrar(shared_etcd, prefix, name, "--verify", "warn"), watched(shared_etcd, prefix) as watch:
        records.appears(name)
        for _ in range(9):
            docker("restart", "-t", "0", name)
            started = nanoseconds(docker.inspect(name)["State"]["StartedAt"]) / 1e9
            port = docker.port(name)
            put = watch.put_with(port=port)
            delays.append(put.when - started)
    assert statistics.median(delays) < 0.2, delays


def test_the_admin_server_says_what_is_held_and_why_not_and_memory_stays_small(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    name = docker.run("-p", "80")
    admin = f"127.0.0.1:{free_port()}"
    with registrar(shared_etcd, prefix, name, "--admin", admin) as program:
        records.appears(name)
        eventually(lambda: fetch(f"http://{admin}/readyz")[0] == 200)
        document = status(admin)
        assert document["container"]["state"] == "up"
        assert document["held"] == {"id": name, "address": f"{ADVERTISED}:{docker.port(name)}", "state": "up"}
        assert document["docker"]["connected"]
        assert document["lease"]["state"] == "held"
        assert "amb_registrar_registered 1.0" in fetch(f"http://{admin}/metrics")[1]
        assert fetch(f"http://{admin}/healthz")[0] == 200
        docker("pause", name)
        records.vanishes(name)
        eventually(lambda: status(admin)["held"] is None)
        assert status(admin)["container"]["state"] == "paused"
        assert "is paused" in status(admin)["container"]["why"]
        assert "amb_registrar_registered 0.0" in fetch(f"http://{admin}/metrics")[1]
        assert fetch(f"http://{admin}/readyz")[0] == 200
        assert rss_mib(program.pid) <= 80


def test_two_hosts_may_have_a_container_of_one_name(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records
) -> None:
    """The second host's record goes beside the first's, and neither touches the other's."""
    name = docker.run("-p", "80")
    first = registrar(shared_etcd, prefix, name, "--host-id", "host-a")
    second = registrar(shared_etcd, prefix, name, "--host-id", "host-b")
    with first:
        records.appears(name, owner="host-a")
        with second:
            records.appears(f"{name}@host-b", owner="host-b")
            assert second.stop() == 0
        assert list(records.all()) == [name]
        assert first.process.poll() is None
        first.signal(signal.SIGINT)
        assert first.process.wait(5) == 0
    assert records.all() == {}
