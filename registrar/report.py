"""What registrar says about itself: health, readiness, the status document and the metrics."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ambcore.model import Instance
from ambcore.registration.extract import Refusal, Wish
from ambcore.states import Lease
from ambnet.daemon import Life
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd
from ambnet.http import Admin
from ambnet.lease import LeaseKeeper
from registrar.agent import Agent


@dataclass(frozen=True, slots=True)
class Means:
    """What registrar works with."""

    life: Life
    engine: Engine
    etcd: Etcd
    keeper: LeaseKeeper


class Agents(Protocol):
    """What both kinds of agent tell of themselves."""

    counters: Counter[str]
    denied: str | None

    @property
    def seen(self) -> asyncio.Event:
        """Set once Docker told what it is asked for."""

    @property
    def settled(self) -> bool:
        """Whether the registry agrees."""


class Report(Collector):
    """Reads the parts it is given whenever it is asked; keeps nothing itself. What is said of containers is added by
    the one that extends it.
    """

    def __init__(self, means: Means, agent: Agents) -> None:
        self._means = means
        self._agent = agent

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What the status document says of containers."""

    @abstractmethod
    def count(self) -> Iterator[Metric]:
        """The metrics of containers."""

    def admin(self) -> Admin:
        """The admin server's four answers."""
        registry = CollectorRegistry()
        registry.register(self)
        return Admin(self.health, self.readiness, self.status, registry)

    def health(self) -> str | None:
        """None unless somebody must act; Docker or etcd being away is not a reason to restart us."""
        return self._agent.denied

    def readiness(self) -> str | None:
        """None while what is asked for is known and the registry agrees."""
        if self._means.life.stopping.is_set():
            return "stopping"
        if not self._agent.seen.is_set():
            return "docker was not reached yet"
        if not self._means.keeper.grants:
            return "etcd was not reached yet"
        return None if self._agent.settled else "the registry does not hold what it should yet"

    def status(self) -> dict[str, Any]:
        """The status document; every duration in seconds."""
        means = self._means
        return {
            "program": "registrar",
            "uptime": round(time.monotonic() - means.life.started, 3),
            "ready": self.readiness() is None,
            **self.about(),
            "docker": {"url": means.engine.url, "connected": means.engine.connected},
            "etcd": {
                "endpoint": means.etcd.endpoint,
                "connected": means.etcd.connected,
                "last_error": means.etcd.last_error,
            },
            "lease": {"id": f"{means.keeper.lease:x}", "state": means.keeper.state.value},
        }

    def collect(self) -> Iterator[Metric]:
        """The metrics, in Prometheus' own naming conventions."""
        agent, means = self._agent, self._means
        yield from self.count()
        yield gauge("settled", "1 while the registry holds what it should.", agent.settled)
        yield gauge("docker_connected", "1 while the Docker daemon answers.", means.engine.connected)
        yield gauge("etcd_connected", "1 while etcd answers.", means.etcd.connected)
        yield gauge("lease_held", "1 while the lease is known to live.", means.keeper.state is Lease.HELD)
        yield gauge("loop_lag_seconds", "Lateness of the event loop.", means.life.loop_lag)
        yield counter("docker_reconnects", "Attempts to reach the daemon again.", means.engine.reconnects)
        yield counter("holds", "Records written or changed.", agent.counters["hold"])
        yield counter("releases", "Records deleted.", agent.counters["release"])


class ContainerReport(Report):
    """Of the one container that registrar was given."""

    def __init__(self, wish: Wish, means: Means, agent: Agent) -> None:
        super().__init__(means, agent)
        self._wish = wish
        self._one = agent

    def about(self) -> dict[str, Any]:
        """The service, its container, what is wanted and held."""
        agent, want = self._one, self._one.wanted
        return {
            "service": self._wish.service,
            "container": {
                "name": self._wish.container,
                "id": agent.view.run.container if agent.view.run else None,
                "state": _state(want),
                "why": want.text if isinstance(want, Refusal) else None,
            },
            "wanted": _record(want, agent.record) if isinstance(want, Instance) else None,
            "held": _record(agent.held, agent.record),
        }

    def count(self) -> Iterator[Metric]:
        """Whether it is registered."""
        yield gauge("registered", "1 while a record is held.", self._one.held is not None)
        yield counter("inspections", "Looks at the container.", self._one.counters["inspections"])


def _state(want: Instance | Refusal | None) -> str:
    """One word: unknown, a Refusal's reason, up or draining."""
    if want is None:
        return "unknown"
    return want.reason.value if isinstance(want, Refusal) else want.readiness.value


def _record(instance: Instance | None, record: str | None) -> dict[str, Any] | None:
    if instance is None:
        return None
    return {"id": record or instance.id, "address": str(instance.address), "state": instance.readiness.value}


def gauge(name: str, text: str, value: float) -> Metric:
    """One of registrar's."""
    return GaugeMetricFamily(f"amb_registrar_{name}", text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """One of registrar's."""
    return CounterMetricFamily(f"amb_registrar_{name}", text, value=value)
