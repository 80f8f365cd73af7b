"""dynproxy's metrics: everything that is declared is told, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from ambcore.drains import Drains
from ambcore.model import Address, Instance, Readiness
from ambcore.states import Watch
from ambnet.daemon import Life
from ambnet.metrics import EVERYWHERE, PROCESS
from ambnet.relay.protocol import InstanceStats, ServiceStats
from dynproxy.config import Settings
from dynproxy.following import Following
from dynproxy.health import HealthChecks
from dynproxy.holding import Holding
from dynproxy.metrics import FAMILIES, OF_KERNEL, Metrics
from dynproxy.parts import Parts
from dynproxy.plane import DataPlane, KernelState, KernelTraffic, PlaneStats, Serving
from dynproxy.sources import EtcdSource, Sight, Source
from tests.support.etcd_cluster import EtcdCluster
from tests.support.exposition import Told, assert_declared, scraped, told, value
from tests.support.ports import free_port
from tests.support.programs import status
from tests.support.silence import becomes_silent
from tests.support.waiting import eventually
from tests.system.proxies import Proxy, Records, servers

SERVICE = "redis-A"


class Given:
    """A source that has told everything already."""

    service, trusted = SERVICE, True

    def __init__(self, *served: Instance) -> None:
        self.served = served
        self.known = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def snapshots(self) -> AsyncIterator[tuple[Instance, ...]]:
        yield self.served
        await asyncio.Event().wait()

    def sight(self) -> Sight:
        return Sight(Watch.WATCHING, 1.5, 7, drift=0, rejected={"malformed": 2}, refused={"x": "?"})


class Recorded(Given, EtcdSource):  # type: ignore[misc]
    """One of records, of which two are held."""

    holding = cast("Holding", SimpleNamespace(held=("x", "y"), total=3))


class Plane:
    """Says what a test wants said."""

    def __init__(self, stats: PlaneStats) -> None:
        self._stats = stats

    async def apply(self, *_: object) -> None:
        pass

    def stats(self, *, again_soon: bool = True) -> PlaneStats:
        return self._stats


def stats(serving: Serving, instances: dict[str, InstanceStats] | None = None) -> PlaneStats:
    """Of a kernel plane, and the relay beside it."""
    carried = ServiceStats(3, {"accepted": 5, "parked": 3}, instances or {})
    kernel = KernelState(("t",), transactions=9, failures=2, repairs=1, error=None, cut=4, flow_errors=5)
    return PlaneStats("kernel", "", (1, 2), True, {SERVICE: carried}, {SERVICE: serving}, kernel, restarts=6)


def instance(name: str, readiness: Readiness = Readiness.UP) -> Instance:
    return Instance(SERVICE, name, Address("10.0.0.1", ord(name)), readiness=readiness)


async def collected(plane: PlaneStats, /, *served: Instance, **settings: Any) -> dict[str, Told]:
    """What is told of one service with these instances, by a dynproxy that has every part there is."""
    data_plane = cast("DataPlane", Plane(plane))
    following = Following(HealthChecks(0, 1, lambda *_: None), data_plane)
    following.follow(cast("Source", Recorded(*served)))
    engine = SimpleNamespace(connected=True, reconnects=8)
    others: dict[str, Any] = {
        "etcd": SimpleNamespace(connected=False),
        "containers": None,
        "links": SimpleNamespace(engine=engine, figures=(10, 11)),
        "drains": SimpleNamespace(known=True, denied=True, drains=Drains()),
        "announcer": SimpleNamespace(key=None),
    }
    made = Settings(services=(f"{SERVICE}:80",), **settings)
    health = HealthChecks(0, 1, lambda *_: None)
    parts = Parts(settings=made, following=following, plane=data_plane, health=health, life=Life(), **others)
    try:
        return told(Metrics(parts).collect())
    finally:
        await following.aclose()


async def test_everything_that_is_declared_is_told_and_nothing_else() -> None:
    """Of a dynproxy that has all parts; what every program tells is told elsewhere."""
    traffic = KernelTraffic(connections=20, packets=21, bytes=22)
    families = await collected(
        stats(Serving("kernel", "", traffic), {"a": InstanceStats(1, 2, 3, 4, 5)}), instance("a")
    )
    assert families.keys() == {family.name for family in set(FAMILIES) - {*EVERYWHERE, *PROCESS}}
    assert_declared(families, FAMILIES)
    for name, family in families.items():
        assert family.samples, f"{name} has no sample where all parts are there"


async def test_numbers_are_where_they_belong() -> None:
    traffic = KernelTraffic(connections=20, packets=21, bytes=22)
    known = (instance("a"), instance("b", Readiness.DRAINING))
    families = await collected(stats(Serving("kernel", "", traffic), {"a": InstanceStats(1, 2, 3, 4, 5)}), *known)
    for name, labels, expected in (
        ("amb_etcd_connected", {}, 0),
        ("amb_announced", {}, 0),
        ("amb_drains_known", {}, 0),
        ("amb_link_listeners", {}, 10),
        ("amb_relay_worker_restarts_total", {}, 6),
        ("amb_kernel_connections_total", {"service": SERVICE}, 20),
        ("amb_kernel_packets_total", {"service": SERVICE}, 21),
        ("amb_kernel_bytes_total", {"service": SERVICE}, 22),
        ("amb_kernel_transactions_total", {"outcome": "failed"}, 2),
        ("amb_view_age_seconds", {"service": SERVICE}, 1.5),
        ("amb_records_refused_total", {"service": SERVICE, "reason": "malformed"}, 2),
        ("amb_refused_records", {"service": SERVICE}, 1),
        ("amb_instances", {"service": SERVICE, "state": "up"}, 1),
        ("amb_instances", {"service": SERVICE, "state": "draining"}, 1),
        ("amb_relay_parked_connections", {"service": SERVICE}, 3),
        ("amb_relay_connections_open", {"service": SERVICE, "upstream": "a"}, 1),
        ("amb_relay_connections_total", {"service": SERVICE, "upstream": "a"}, 2),
        ("amb_relay_connect_failures_total", {"service": SERVICE, "upstream": "a"}, 3),
        ("amb_relay_bytes_total", {"service": SERVICE, "upstream": "a", "direction": "in"}, 4),
        ("amb_relay_bytes_total", {"service": SERVICE, "upstream": "a", "direction": "out"}, 5),
    ):
        assert value(families, name, **labels) == expected, name


async def test_an_instance_that_is_gone_is_told_of_as_long_as_it_has_connections() -> None:
    """Else the names of all that there ever were would pile up."""
    carried = {"left": InstanceStats(connections=1), "gone": InstanceStats(connections_total=9), "a": InstanceStats()}
    families = await collected(stats(Serving("relay", ""), carried), instance("a"))
    shown = {dict(labels)["upstream"] for labels in families["amb_relay_connections_total"].samples}
    assert shown == {"left", "a"}


async def test_an_instance_counts_as_ejected_whoever_passes_it_by() -> None:
    carried = {"a": InstanceStats(ejected=True), "b": InstanceStats()}
    serving = Serving("kernel", "", refusing=frozenset("b"))
    families = await collected(stats(serving, carried), instance("a"), instance("b"), instance("c"))
    assert value(families, "amb_instances_ejected", service=SERVICE) == 2


@pytest.mark.parametrize(
    ("plane", "served", "settings", "falls_back"),
    [
        ("kernel", True, {}, 0),
        ("relay", True, {}, 1),
        ("relay", False, {}, 0),
        ("relay", True, {"plane": "relay"}, 0),
        ("relay", True, {"policy": "least-connections"}, 0),
    ],
)
async def test_the_relay_in_the_kernels_place_is_a_fallback_unless_it_was_asked_for(
    plane: str, served: bool, settings: dict[str, str], falls_back: int
) -> None:
    families = await collected(stats(Serving(plane, "")), *([instance("a")] if served else []), **settings)
    assert value(families, "amb_relay_fallback", service=SERVICE) == falls_back


@pytest.fixture(scope="module")
def proxy(shared_etcd: EtcdCluster) -> Iterator[Proxy]:
    """A running one, with an instance, one that refuses, and a record that cannot be read."""
    records = Records(shared_etcd, "metered")
    with servers("a") as (a,), Proxy(shared_etcd, "metered", "--plane", "relay") as proxy:
        records.put("good", a.port)
        records.put("dark", free_port())
        records.raw("bad", "?")
        proxy.wait_instances("good", "dark")
        eventually(lambda: proxy.instances()["dark"]["state"] == "ejected", 20, "the checks find the dark one")
        yield proxy


@pytest.mark.etcd
def test_a_running_dynproxy_tells_what_is_declared(proxy: Proxy) -> None:
    families = scraped(proxy.admin)
    assert_declared(families, FAMILIES)
    absent = {family.name for family in FAMILIES} - families.keys()
    elsewhere = {"amb_docker_connected", "amb_docker_reconnects_total", "amb_link_listeners", "amb_links_refused"}
    assert absent == elsewhere | {family.name for family in OF_KERNEL}


@pytest.mark.etcd
def test_a_running_dynproxy_is_seen_as_it_is(proxy: Proxy) -> None:
    eventually(lambda: value(scraped(proxy.admin), "amb_announced") == 1, 10, "it is announced")
    families = scraped(proxy.admin)
    for name, labels, expected in (
        ("amb_ready", {}, 1),
        ("amb_healthy", {}, 1),
        ("amb_etcd_connected", {}, 1),
        ("amb_plane_healthy", {}, 1),
        ("amb_drains_known", {}, 1),
        ("amb_instances", {"service": "metered", "state": "up"}, 2),
        ("amb_instances_down", {"service": "metered"}, 1),
        ("amb_instances_ejected", {"service": "metered"}, 1),
        ("amb_plane_info", {"service": "metered", "plane": "relay"}, 1),
        ("amb_relay_fallback", {"service": "metered"}, 0),
    ):
        assert value(families, name, **labels) == expected, name
    assert 10e6 < value(families, "process_resident_memory_bytes") < 100e6
    assert value(families, "amb_records_refused_total", service="metered", reason="malformed") >= 1


@pytest.mark.etcd
def test_an_idle_dynproxy_says_nothing(proxy: Proxy) -> None:
    """Each change is a line, and where nothing changes there is none."""
    becomes_silent(proxy, 3)


@pytest.mark.etcd
def test_a_worker_that_was_replaced_is_counted_and_what_it_cost_is_not_forgotten(proxy: Proxy) -> None:
    before = scraped(proxy.admin)
    assert value(before, "amb_relay_workers_resident_memory_bytes") > 5e6
    for pid in status(proxy.admin)["plane"]["processes"]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: value(scraped(proxy.admin), "amb_relay_worker_restarts_total") >= 1, 20, "they are replaced")
    after = value(scraped(proxy.admin), "amb_relay_workers_cpu_seconds_total")
    assert after >= value(before, "amb_relay_workers_cpu_seconds_total") > 0
