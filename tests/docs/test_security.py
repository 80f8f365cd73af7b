"""docs/security.md: the users that it makes may do what their programs need, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.docker_engine import Docker
from tests.support.docker_filter import docker_filter
from tests.support.etcd_fixtures import need_etcd
from tests.support.guarded_etcd import Guarded, guarded_etcd
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, status
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    need_etcd()
    with guarded_etcd(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


@pytest.mark.docker
@pytest.mark.etcd
def test_each_program_works_with_the_user_that_the_page_makes_for_it(guarded: Guarded, docker: Docker) -> None:
    """A container is registered, a proxy sees it, both programs are announced, and an operator may write."""
    container = docker.run("-p", "80")
    registrar, dynproxy, operator = (guarded.login(user) for user in ("registrar", "dynproxy", "operator"))
    admins = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    registrar |= {"AMB_ADVERTISE": "192.0.2.1", "AMB_ADMIN": admins[0]}
    dynproxy |= {"AMB_ADMIN": admins[1], "AMB_PLANE": "relay", "AMB_LISTEN": "127.0.0.1"}
    with (
        Program("registrar", container, "80", "guarded", env=registrar) as registers,
        Program("dynproxy", "guarded", str(free_port()), env=dynproxy) as serves,
    ):
        seen = eventually(lambda: status(admins[1])["services"][0]["instances"], 20, "the proxy sees the container")
        assert [item["id"] for item in seen] == [container]
        for admin, program in zip(admins, (registers, serves), strict=True):
            program.wait_for("announced as ", 20)
            assert fetch(f"http://{admin}/healthz") == (200, "ok\n"), program.log
        with Program("ambctl", "rm", "guarded", container, env=operator) as removes:
            assert removes.process.wait(20) == 0, removes.log


@pytest.fixture
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_filter(tmp_path_factory.mktemp("f")) as url:
        yield url


@pytest.mark.docker
@pytest.mark.etcd
def test_registrar_needs_no_more_of_docker_than_the_filter_lets_pass(
    filtered: str, docker: Docker, guarded: Guarded
) -> None:
    container = docker.run("-p", "80", "--label", "SERVICE_NAME=filtered")
    env = guarded.login("registrar") | {"DOCKER_HOST": filtered, "AMB_ADVERTISE": "192.0.2.1"}
    with Program("registrar", "--explicit", env=env) as registers:
        registers.wait_for(f"registered filtered/.*{container}:80 at 192.0.2.1", 20)
    with pytest.raises(AssertionError, match=r"(?i)forbidden"):
        Docker(filtered)("rm", "--force", container)


@pytest.mark.etcd
def test_a_proxy_may_not_write_records(guarded: Guarded) -> None:
    """The one thing that a proxy which was taken over must not be able to do."""
    with Program("ambctl", "put", "guarded", "by-hand", "192.0.2.1:80", env=guarded.login("dynproxy")) as puts:
        assert puts.process.wait(20) == 3
    assert "permission" in puts.log
