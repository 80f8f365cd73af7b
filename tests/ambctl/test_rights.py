"""What a user of etcd who may read the records alone is told, and what not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_users import let_in, password_in
from tests.support.programs import ROOT, _clean_environment

pytestmark = pytest.mark.etcd

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def ambctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs ambctl as a user of its own cluster, who may use /services/ and nothing else; there is one record."""
    folder = tmp_path_factory.mktemp("rights")
    password = password_in(folder)
    with EtcdCluster(folder / "etcd", size=1) as cluster:
        lease = cluster.etcdctl("lease", "grant", "600").split()[1]
        cluster.etcdctl("put", "/services/redis-A/one", "10.1.2.3:6379", f"--lease={lease}")
        let_in(cluster, {"reader": ["read /services/"]})

        def run(*arguments: str, user: str = "reader") -> subprocess.CompletedProcess[str]:
            login = {"AMB_ETCD_USER": user, "AMB_ETCD_PASSWORD_FILE": str(password)}
            return subprocess.run(
                [sys.executable, "-m", "ambctl", *arguments],
                cwd=ROOT,
                env={**_clean_environment(), "AMB_ETCD": ",".join(cluster.endpoints), **login},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )

        yield run


def test_who_may_not_read_the_fleet_is_told_the_records(ambctl: Run) -> None:
    listed = ambctl("ls")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.splitlines()[1].split()[:4] == ["redis-A", "one", "10.1.2.3:6379", "up"]
    shown = ambctl("show", "redis-A", "--json")
    assert shown.returncode == 0
    assert 0 < json.loads(shown.stdout)["instances"][0]["lease_left"] <= 600
    top = ambctl("top")
    assert top.returncode == 0
    assert "no program has announced itself" in top.stderr


@pytest.mark.parametrize("arguments", [("put", "redis-A", "two", "10.1.2.4:80"), ("rm", "redis-A", "one"), ("drains",)])
def test_what_is_denied_is_a_line_and_exit_code_3(ambctl: Run, arguments: tuple[str, ...]) -> None:
    done = ambctl(*arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("ambctl: etcd: ")
    assert "permission denied" in done.stderr
    assert done.stderr.count("\n") == 1
