"""registrar's metrics: everything that is declared is told, and nothing else; and what is idle says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from registrar.metrics import FAMILIES, OF_HOST
from tests.registrar.host_scene import host_registrar
from tests.registrar.scene import registrar
from tests.support.etcd_cluster import EtcdCluster
from tests.support.exposition import assert_declared, scraped, value
from tests.support.fake_docker import FakeDocker
from tests.support.ports import free_port
from tests.support.programs import Program
from tests.support.silence import becomes_silent
from tests.support.waiting import eventually

pytestmark = pytest.mark.etcd


class Running(NamedTuple):
    program: Program
    admin: str
    whole_host: bool


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDocker]:
    """A daemon with one container that is published, and one that is not."""
    with FakeDocker(tmp_path_factory.mktemp("docker")) as docker:
        docker.start("web", "8080:80/tcp")
        docker.start("hidden")
        yield docker


@pytest.fixture(scope="module", params=["one", "host"])
def running(request: pytest.FixtureRequest, shared_etcd: EtcdCluster, fake: FakeDocker) -> Iterator[Running]:
    """registrar of one container and of the whole host."""
    admin, prefix = f"127.0.0.1:{free_port()}", f"/metered-{request.param}/"
    options = ("--admin", admin, "--resync", "1")
    if request.param == "one":
        program = registrar(shared_etcd, prefix, container_id(fake, "web"), *options, docker=fake.url)
    else:
        program = host_registrar(shared_etcd, prefix, *options, docker=fake.url)
    with program:
        eventually(lambda: value(scraped(admin), "amb_ready") == 1, 20, "it is ready")
        yield Running(program, admin, request.param == "host")


def container_id(fake: FakeDocker, name: str) -> str:
    """What this daemon inspects by."""
    return next(identity for identity, found in fake.containers.items() if found["Name"] == f"/{name}")


def test_it_tells_what_is_declared(running: Running) -> None:
    families = scraped(running.admin)
    assert_declared(families, FAMILIES)
    absent = {family.name for family in FAMILIES} - families.keys()
    assert absent == (set() if running.whole_host else {family.name for family in OF_HOST})


def test_it_is_seen_as_it_is(running: Running) -> None:
    eventually(lambda: value(scraped(running.admin), "amb_announced") == 1, 10, "it is announced")
    families = scraped(running.admin)
    for name, expected in (
        ("amb_healthy", 1),
        ("amb_etcd_connected", 1),
        ("amb_docker_connected", 1),
        ("amb_lease_held", 1),
        ("amb_registrar_settled", 1),
        ("amb_registrar_registered", 1),
        ("amb_registrar_waiting", 0),
    ):
        assert value(families, name) == expected, name
    assert value(families, "amb_registrar_records_written_total") >= 1
    assert value(families, "amb_lease_grants_total") >= 1


def test_what_is_idle_says_nothing(running: Running) -> None:
    """Each change is a line, and looking again each second is none."""
    becomes_silent(running.program, 3)


def test_why_a_container_has_no_record_is_counted(shared_etcd: EtcdCluster, fake: FakeDocker) -> None:
    admin = f"127.0.0.1:{free_port()}"
    with registrar(shared_etcd, "/metered-hidden/", container_id(fake, "hidden"), "--admin", admin, docker=fake.url):
        eventually(
            lambda: value(scraped(admin), "amb_registrar_not_registered", reason="not-published") == 1,
            20,
            "its port is not published",
        )
        assert value(scraped(admin), "amb_registrar_registered") == 0
