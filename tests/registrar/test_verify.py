"""`--verify`: what registrar does where nobody answers yet, with real containers on real ports."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ambnet.addresses import local_addresses, source_address_towards
from tests.registrar.host_scene import HostRecords, host_registrar
from tests.registrar.scene import Records, registrar, watched
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.ports import free_port
from tests.support.programs import fetch, status
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

LATER = 30.0  # seconds for what comes five seconds after something, and on a busy machine
SERVE = "httpd -p 80 -h /www"
# Docker kills it at once; it listens from the moment on when somebody makes the file.
ON_CUE = ("sh", "-c", f"while ! test -e /tmp/go; do sleep 0.05; done; {SERVE}; sleep 600")


@pytest.fixture
def records(shared_etcd: EtcdCluster, prefix: str) -> Records:
    return Records(shared_etcd, prefix)


@pytest.fixture(scope="module")
def here() -> str:
    """An address of this machine that may be published, and stays: others may be of networks of tests beside this."""
    found = source_address_towards("192.0.2.1") or next(
        each for each in local_addresses() if each.version == 4 and not str(each).startswith(("127.", "172."))
    )
    return str(found)


def told(admin: str, name: str) -> list[dict[str, Any]]:
    """What registrar explains of a name."""
    found: list[dict[str, Any]] = json.loads(fetch(f"http://{admin}/explain.json?of={name}")[1])
    return found


def test_by_default_it_is_published_at_once_and_said_where_nobody_answers(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, here: str
) -> None:
    admin = f"127.0.0.1:{free_port()}"
    name = docker.run("-p", f"{here}::80", command=ON_CUE)
    with registrar(shared_etcd, prefix, name, "--admin", admin, "--verify", "warn") as program:
        began = time.monotonic()
        port = records.appears(name, host=here)["port"]
        program.wait_for(
            rf"WARNING .*nobody has answered registrar at {here}:{port}, redis-A/{name}, for \d+ s .*: see ",
            LATER,
        )
        assert time.monotonic() - began > 4
        unanswered = status(admin)["verify"]["unanswered"]
        assert [(each["id"], each["address"]) for each in unanswered] == [(name, f"{here}:{port}")]
        assert told(admin, name)[-1]["level"] == "amber"
        assert "nobody has answered registrar" in told(admin, name)[-1]["says"]
        assert "amb_registrar_unanswered 1.0" in fetch(f"http://{admin}/metrics")[1]
        docker("exec", name, "touch", "/tmp/go")
        program.wait_for(rf"redis-A/{name} answers at {here}:{port}, after \d+ s", LATER)
        assert status(admin)["verify"] == {"how": "warn", "unanswered": []}
        assert told(admin, name)[-1]["level"] == "green"
        assert program.log.count("nobody has answered") == 1


def test_a_slow_starter_gets_no_client_early(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, here: str
) -> None:
    """With `wait` the first thing that is ever written is written when it listens; a restart is verified anew."""
    admin = f"127.0.0.1:{free_port()}"
    name = docker.run("-p", f"{here}::80", command=ON_CUE)
    waiting = rf"not registered: redis-A/{name} waits until somebody answers at {here}:\d+"
    with (
        watched(shared_etcd, prefix) as watch,
        registrar(shared_etcd, prefix, name, "--verify", "wait", "--admin", admin) as program,
    ):
        for again in (False, True):
            if again:
                docker("exec", name, "rm", "/tmp/go")
                docker("restart", "-t", "0", name)
                records.vanishes(name)
            program.wait_for(waiting + (rf"(?s:.*){waiting}" if again else ""))
            eventually(lambda: status(admin)["verify"]["unanswered"])
            assert status(admin)["container"]["state"] == "unanswered"
            assert fetch(f"http://{admin}/readyz")[0] == 200
            assert [(each["level"], each["topic"]) for each in told(admin, name)][-1] == ("red", "answer")
            assert records.get(name) is None
            docker("exec", name, "touch", "/tmp/go")
            records.appears(name, port=docker.port(name))
        assert [change for change in watch.summary() if change != "draining"] == ["up", "DELETE", "up"]


def test_one_that_ends_while_it_is_waited_for_is_never_published(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, here: str
) -> None:
    slow_to_end = ("sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done")
    name = docker.run("-p", f"{here}::80", command=slow_to_end)
    with (
        watched(shared_etcd, prefix) as watch,
        registrar(shared_etcd, prefix, name, "--verify", "wait") as program,
    ):
        program.wait_for("waits until somebody answers")
        docker("stop", name)
        program.wait_for(r"not registered: .* (has ended|is not running|exited)")
        assert watch.changes == []
        assert program.stop() == 0
    assert records.all() == {}


def test_what_an_earlier_life_published_is_not_taken_back(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, records: Records, here: str
) -> None:
    """The next life waits for answers; the record that stands is adopted before its lease runs out."""
    ttl = 10
    name = docker.run("-p", f"{here}::80")
    with watched(shared_etcd, prefix) as watch:
        with registrar(shared_etcd, prefix, name, "--verify", "no", ttl=ttl) as program:
            first = records.appears(name)
            program.kill()
        with registrar(shared_etcd, prefix, name, "--verify", "wait", ttl=ttl) as program:
            eventually(lambda: records.appears(name)["epoch"] != first["epoch"], ttl)
            program.wait_for(r"nobody has answered .*; it is published all the same", LATER)
            assert records.appears(name)["port"] == first["port"]
            assert watch.deletes() == []


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path) as daemon:
        yield daemon


def test_of_a_host_those_who_answer_do_not_wait_for_those_who_do_not(
    fake: FakeDocker, shared_etcd: EtcdCluster, prefix: str, here: str
) -> None:
    """A hundred that never answer, and one among them that does; and another that comes later."""
    dead, living = [f"d{number}" for number in range(100)], ["early", "late"]
    records = HostRecords(shared_etcd, prefix, {*dead, *living})
    with contextlib.ExitStack() as stack:
        early, late = (stack.enter_context(socket.create_server((here, 0))) for _ in range(2))
        for name in dead:
            taken = stack.enter_context(socket.socket())  # bound, so that nobody else listens there
            taken.bind((here, 0))
            fake.start(name, f"{taken.getsockname()[1]}:80/tcp")
        fake.start("early", f"{early.getsockname()[1]}:80/tcp")
        options = ("--verify", "wait", "--advertise", here)
        with host_registrar(shared_etcd, prefix, *options, docker=fake.url):
            records.are_of(["early"])
            fake.start("late", f"{late.getsockname()[1]}:80/tcp")
            records.are_of(living)
