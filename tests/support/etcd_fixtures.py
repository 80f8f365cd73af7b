"""Fixtures that everyone uses: a shared etcd cluster, and a corner of it for each test."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator

import pytest

from tests.support.etcd_cluster import EtcdCluster

_corners = itertools.count(1)


def need_etcd() -> None:
    """Fail with clear words where etcd is not installed."""
    for tool in ("etcd", "etcdctl"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not on the path: apt-get install etcd-server etcd-client", pytrace=False)


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members for the whole run. Tests that hurt a member start a cluster of their own."""
    need_etcd()
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"/corner-{next(_corners)}/"
