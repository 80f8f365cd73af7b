"""What every test of a whole dynproxy starts from."""

from __future__ import annotations

import time

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.system.proxies import Records


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service of the test's own in the shared cluster."""
    return f"s{abs(hash(request.node.name)) % 10**8}-{time.monotonic_ns() % 10**6}"


@pytest.fixture
def records(shared_etcd: EtcdCluster, service: str) -> Records:
    return Records(shared_etcd, service)
