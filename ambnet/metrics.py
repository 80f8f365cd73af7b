"""Metrics: each family declared once, and what is measured of every program alike.

Names and units follow Prometheus' conventions, so a name says its type and unit: `_total` is a counter, anything else a
gauge; `_seconds` and `_bytes` are what they say, other numbers count things. `docs/metrics.md` is made from the
declarations.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ambcore.states import Lease
from ambcore.version import VERSION
from ambnet import log
from ambnet.daemon import Life


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: its name as it is scraped, what it means in a line, the names of its labels."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`counter` or `gauge`."""
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def unit(self) -> str:
        """`seconds`, `bytes`, or nothing for a number of things."""
        found = re.search(r"_(seconds|bytes)(_total)?$", self.name)
        return found[1] if found else ""

    def of(self, samples: Mapping[tuple[str, ...], float]) -> Metric:
        """The family with these values, by their labels' values."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.meaning, labels=self.labels)
        for labels, value in samples.items():
            family.add_metric(labels, value)
        return family

    def one(self, value: float, *labels: str) -> Metric:
        """The family with a single value."""
        return self.of({labels: value})


BUILD = Family("amb_build_info", "Always 1; which program this is, and of which version.", ("program", "version"))
HEALTHY = Family("amb_healthy", "1 while /healthz says ok: nobody has to act.")
READY = Family("amb_ready", "1 while /readyz says ok.")
LOOP_LAG = Family("amb_loop_lag_seconds", "The most that the event loop was late within the last 15 s.")
TASKS = Family("amb_tasks", "Tasks of the event loop; while nobody comes and goes their number stays the same.")
LOG_DROPPED = Family("amb_log_lines_dropped_total", "Lines of the log that nobody read in time.")
ETCD_CONNECTED = Family("amb_etcd_connected", "1 while etcd answers.")
DOCKER_CONNECTED = Family("amb_docker_connected", "1 while the Docker daemon answers.")
DOCKER_RECONNECTS = Family("amb_docker_reconnects_total", "Attempts to reach the Docker daemon again.")
LEASE_HELD = Family("amb_lease_held", "1 while the lease of what this program writes to etcd is known to live.")
LEASE_GRANTS = Family("amb_lease_grants_total", "Leases granted: more than one means that one was lost.")
ANNOUNCED = Family("amb_announced", "1 while this program is announced in etcd; nothing with --announce no.")

EVERYWHERE = (BUILD, HEALTHY, READY, LOOP_LAG, TASKS, LOG_DROPPED)
PROCESS = (  # of prometheus-client's own collector; a process's name for them is the same everywhere
    Family("process_cpu_seconds_total", "Processor time of this process, without its workers."),
    Family("process_resident_memory_bytes", "Memory that this process has resident."),
    Family("process_virtual_memory_bytes", "Memory that this process has mapped."),
    Family("process_start_time_seconds", "When this process began, since 1970."),
    Family("process_open_fds", "Files that this process has open."),
    Family("process_max_fds", "Files that this process may have open."),
)


class Connected(Protocol):
    """A connection to somebody who may be away."""

    @property
    def connected(self) -> bool:
        """Whether it answers."""


class Daemon(Connected, Protocol):
    """Docker's."""

    reconnects: int


class Announced(Protocol):
    """A program that says in etcd that it takes part."""

    key: str | None


class Keeper(Protocol):
    """Of a lease."""

    state: Lease
    grants: int


def etcd_metrics(etcd: Connected) -> Iterator[Metric]:
    """How it stands with etcd."""
    yield ETCD_CONNECTED.one(etcd.connected)


def docker_metrics(engine: Daemon) -> Iterator[Metric]:
    """How it stands with the Docker daemon."""
    yield DOCKER_CONNECTED.one(engine.connected)
    yield DOCKER_RECONNECTS.one(engine.reconnects)


def lease_metrics(keeper: Keeper) -> Iterator[Metric]:
    """How it stands with a lease."""
    yield LEASE_HELD.one(keeper.state is Lease.HELD)
    yield LEASE_GRANTS.one(keeper.grants)


def fleet_metrics(announcer: Announced | None) -> Iterator[Metric]:
    """Whether others can find this program."""
    if announcer is not None:
        yield ANNOUNCED.one(announcer.key is not None)


class OfEveryProgram(Collector):
    """What is measured of every program alike; `health` and `readiness` as in `ambnet.http.Admin`."""

    def __init__(
        self, program: str, life: Life, health: Callable[[], str | None], readiness: Callable[[], str | None]
    ) -> None:
        self._program = program
        self._life = life
        self._health = health
        self._readiness = readiness

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield BUILD.one(1, self._program, VERSION)
        yield HEALTHY.one(self._health() is None)
        yield READY.one(self._readiness() is None)
        yield LOOP_LAG.one(self._life.loop_lag)
        yield TASKS.one(_tasks())
        yield LOG_DROPPED.one(log.dropped())


def _tasks() -> int:
    """How many tasks the running event loop has; none outside of one."""
    with contextlib.suppress(RuntimeError):
        return len(asyncio.all_tasks())
    return 0


def registry(*collectors: Collector) -> CollectorRegistry:
    """What a program tells: these, and what its process costs."""
    made = CollectorRegistry()
    for collector in (*collectors, PROCESS_COLLECTOR):
        made.register(collector)
    return made
