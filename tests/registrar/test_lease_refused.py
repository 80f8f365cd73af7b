"""The lease is gone and etcd grants no other: said by the log, by readiness and by the explanation."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.registrar.host_scene import HostRecords, host_registrar
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.ports import free_port
from tests.support.programs import fetch
from tests.support.waiting import eventually

pytestmark = pytest.mark.etcd

QUOTA = 2 << 20  # bytes


def test_A19_a_lease_that_is_gone_and_refused_is_said_and_its_records_are_red(tmp_path: Path, prefix: str) -> None:
    """Revoked while etcd's space is used up: renewals would have gone on, a new grant does not."""
    admin = f"127.0.0.1:{free_port()}"
    with (
        EtcdCluster(tmp_path / "etcd", size=1, options=("--quota-backend-bytes", str(QUOTA))) as etcd,
        FakeDocker(tmp_path) as docker,
        host_registrar(etcd, prefix, "--admin", admin, docker=docker.url, ttl=3) as program,
    ):
        docker.start("web", "8080:80/tcp")
        HostRecords(etcd, prefix, {"web"}).are_of({"web"})
        use_up(etcd)
        etcd.etcdctl("lease", "revoke", program.wait_for(r"lease (\w+) granted")[1])
        program.wait_for("no lease: .*space exceeded")
        ready, why = fetch(f"http://{admin}/readyz")
        assert (ready, "there is no lease" in why, "space exceeded" in why) == (503, True, True)
        (record,) = [each for each in explained(admin, "web") if each["topic"] == "record"]
        assert record["level"] == "red"
        assert "stands no more" in record["says"]
        make_room(etcd)
        eventually(lambda: fetch(f"http://{admin}/readyz")[0] == 200, 10, "it is ready again")
        HostRecords(etcd, prefix, {"web"}).are_of({"web"})


def explained(admin: str, name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(fetch(f"http://{admin}/explain.json?of={name}")[1])
    return found


def use_up(etcd: EtcdCluster) -> None:
    for number in range(8):
        with contextlib.suppress(AssertionError):
            etcd.etcdctl("put", f"/filler/{number}", stdin="x" * (QUOTA // 4))
    assert "NOSPACE" in etcd.etcdctl("alarm", "list")


def make_room(etcd: EtcdCluster) -> None:
    answer = etcd.etcdctl_json("del", "--prefix", "/filler/")
    etcd.etcdctl("compaction", str(answer["header"]["revision"]), "--physical")
    etcd.etcdctl("defrag")
    etcd.etcdctl("alarm", "disarm")
