"""The permissions that docs/security.md gives: enough to work, no more, and each one is missed aloud."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.docker_engine import Docker
from tests.support.etcd_fixtures import need_etcd
from tests.support.guarded_etcd import HOST, Guarded, guarded_etcd
from tests.support.ports import free_port
from tests.support.programs import Program, fetch
from tests.support.waiting import eventually

pytestmark = pytest.mark.etcd

OWN = f"registrar-{HOST}"
RECORD = '{"host": "192.0.2.7", "port": 80}'


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    need_etcd()
    with guarded_etcd(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


ALLOWED = {
    OWN: (
        f"put /services/redis-A/{HOST}:web:80",
        f"put /services/redis-A/{HOST}:web:53:udp",
        "put /services/redis-A/redis-demo.service",
        f"put /services/redis-A/redis-demo.service@{HOST}",
        f"put /ambassadors/programs/registrar/{HOST}-01234567",
        "get --prefix /services/",
    ),
    "registrar": (
        "put /services/any/thing",
        "put /ambassadors/programs/registrar/core-09-1",
        "get --prefix /services/",
    ),
    "dynproxy": (
        "get --prefix /services/",
        "get --prefix /ambassadors/drains/",
        "put /ambassadors/programs/dynproxy/core-01-01234567",
    ),
    "operator": ("put /services/any/thing", "put /ambassadors/drains/hosts/core-01", "get --prefix /ambassadors/"),
}
DENIED = {
    OWN: (
        "put /services/redis-A/core-99:web:80",
        f"put /services/redis-A/{HOST}",
        f"put /services/redis-A/{HOST};",
        f"put /services/web/{HOST}:web:80",
        "put /services/redis-A/redis-demo.service2",
        f"put /services/redis-A/redis-demo.service@{HOST}x",
        "put /ambassadors/programs/registrar/core-99-01234567",
        "put /ambassadors/programs/dynproxy/any",
        "put /ambassadors/drains/hosts/core-99",
        "del /services/redis-A/somebody-elses",
        "del --prefix /services/",
        "get --prefix /",
        "put /anything",
        "user list",
    ),
    "registrar": (
        "put /ambassadors/drains/hosts/core-99",
        "put /ambassadors/programs/dynproxy/any",
        "get --prefix /ambassadors/",
        "put /servicez",
        "role list",
    ),
    "dynproxy": (
        "put /services/redis-A/any",
        "del --prefix /services/",
        "put /ambassadors/drains/hosts/core-99",
        "put /ambassadors/programs/registrar/any",
        "get --prefix /",
        "user list",
    ),
    "operator": ("put /anything", "get --prefix /", "user list", "auth disable"),
}


def _command(line: str) -> list[str]:
    return [*line.split(" "), RECORD] if line.startswith("put") else line.split(" ")


@pytest.mark.parametrize("user", ALLOWED)
def test_a_user_may_do_what_its_program_does_and_nothing_beyond(guarded: Guarded, user: str) -> None:
    done = {line: guarded.may(user, *_command(line)) for line in (*ALLOWED[user], *DENIED[user])}
    assert done == dict.fromkeys(ALLOWED[user], True) | dict.fromkeys(DENIED[user], False)


def test_a_registrar_cannot_end_the_lease_of_anothers_record(guarded: Guarded) -> None:
    """A lease's number is no secret; who ends it deletes its keys, and so has to be allowed to write them."""
    said = guarded.cluster.etcdctl(*_login(guarded, "registrar"), "lease", "grant", "600")
    found = re.search(r"lease ([0-9a-f]+) granted", said)
    assert found is not None
    guarded.cluster.etcdctl(*_login(guarded, "registrar"), "put", f"--lease={found[1]}", "/services/web/theirs", RECORD)
    assert not guarded.may(OWN, "lease", "revoke", found[1])
    assert guarded.may("registrar", "lease", "revoke", found[1])


def _login(guarded: Guarded, user: str) -> tuple[str, str]:
    return "--user", f"{user}:{(guarded.passwords / f'{user}.password').read_text().strip()}"


@pytest.mark.docker
def test_a_registrar_works_with_permissions_for_its_own_records_alone(guarded: Guarded, docker: Docker) -> None:
    """What it may write stands; what it may not is said, with the key, and holds up nothing else."""
    own = docker.run("-p", "80", "--label", "SERVICE_NAME=redis-A")
    other = docker.run("-p", "80", "--label", "SERVICE_NAME=elsewhere")
    admin = f"127.0.0.1:{free_port()}"
    env = guarded.login(OWN) | {"AMB_ADVERTISE": "192.0.2.1", "AMB_ADMIN": admin, "AMB_HOST_ID": HOST}
    with Program("registrar", "--explicit", env=env) as registers:
        registers.wait_for(f"registered redis-A/{HOST}:{own}:80 at 192.0.2.1", 30)
        registers.wait_for("permission denied", 30)
        registers.wait_for("announced as ", 30)
        standing = guarded.cluster.etcdctl(*_login(guarded, "operator"), "get", "--prefix", "--keys-only", "/services/")
        assert f"/services/redis-A/{HOST}:{own}:80" in standing
        assert other not in standing


MISSED = [
    ("read", "/services/", "permission denied", 503),
    ("read", "/ambassadors/drains/", "(?i)drain.*(denied|may not)|(denied|may not).*drain", None),
    ("readwrite", "/ambassadors/programs/dynproxy/", "may not write /ambassadors/programs/", 200),
]


@pytest.mark.parametrize(("kind", "key", "said", "health"), MISSED, ids=[each[1] for each in MISSED])
def test_a_proxy_says_which_permission_it_misses(
    guarded: Guarded, kind: str, key: str, said: str, health: int | None
) -> None:
    admin = f"127.0.0.1:{free_port()}"
    env = guarded.login("dynproxy") | {"AMB_ADMIN": admin, "AMB_PLANE": "relay", "AMB_LISTEN": "127.0.0.1"}
    with guarded.without("dynproxy", [kind], key), Program("dynproxy", "redis-A", str(free_port()), env=env) as serves:
        serves.wait_for(said, 30)
        if health is not None:
            eventually(lambda: fetch(f"http://{admin}/healthz")[0] == health, 20, f"/healthz is {health}")


@pytest.mark.docker
def test_a_registrar_says_that_it_may_not_write(guarded: Guarded, docker: Docker) -> None:
    container = docker.run("-p", "80")
    admin = f"127.0.0.1:{free_port()}"
    env = guarded.login("registrar") | {"AMB_ADVERTISE": "192.0.2.1", "AMB_ADMIN": admin}
    with (
        guarded.without("registrar", ["readwrite"], "/services/"),
        Program("registrar", container, "80", "redis-A", env=env) as registers,
    ):
        registers.wait_for("permission denied", 30)
        eventually(lambda: fetch(f"http://{admin}/healthz")[0] == 503, 20, "/healthz is 503")
    with (
        guarded.without("registrar", ["readwrite"], "/ambassadors/programs/registrar/"),
        Program("registrar", container, "80", "redis-A", env=env) as registers,
    ):
        registers.wait_for("registered redis-A/", 30)
        registers.wait_for("may not write /ambassadors/programs/", 30)


def test_an_operators_verbs_work(guarded: Guarded) -> None:
    """Put, list, drain, take back and remove."""
    env = guarded.login("operator")
    for verb in (
        "put redis-A by-hand 192.0.2.9:80",
        "ls",
        "drain redis-A/by-hand",
        "drains",
        "undrain redis-A/by-hand",
        "rm redis-A by-hand",
    ):
        with Program("ambctl", *verb.split(), env=env) as ambctl:
            assert ambctl.process.wait(30) == 0, (verb, ambctl.log)
