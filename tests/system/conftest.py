"""What every test of a whole dynproxy starts from."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_fixtures import need_etcd
from tests.system.kernel_hosts import Stage, kernel_stage
from tests.system.proxies import Records


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service of the test's own in the shared cluster."""
    return f"s{abs(hash(request.node.name)) % 10**8}-{time.monotonic_ns() % 10**6}"


@pytest.fixture
def records(shared_etcd: EtcdCluster, service: str) -> Records:
    return Records(shared_etcd, service)


@pytest.fixture(scope="session")
def kernel_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Three hosts, an etcd and three servers, for every test of the kernel plane."""
    need_etcd()
    with kernel_stage(tmp_path_factory.mktemp("kernel")) as made:
        yield made


@pytest.fixture
def stage(kernel_session: Stage) -> Stage:
    """The same with a service and a port of the test's own, and nothing of the test before."""
    kernel_session.fresh()
    return kernel_session
