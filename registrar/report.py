"""What registrar says about itself: health, readiness, the status document and the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ambcore.model import Instance
from ambcore.states import Lease
from ambnet.daemon import Life
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd
from ambnet.http import Admin
from ambnet.lease import LeaseKeeper
from registrar.agent import Agent
from registrar.config import Settings
from registrar.extract import Refusal


class Report(Collector):
    """Reads the parts it is given whenever it is asked; keeps nothing itself."""

    def __init__(
        self, settings: Settings, life: Life, *, agent: Agent, engine: Engine, etcd: Etcd, keeper: LeaseKeeper
    ) -> None:
        self._settings = settings
        self._agent = agent
        self._engine = engine
        self._etcd = etcd
        self._keeper = keeper
        self._life = life

    def admin(self) -> Admin:
        """The admin server's four answers."""
        registry = CollectorRegistry()
        registry.register(self)
        return Admin(self.health, self.readiness, self.status, registry)

    def health(self) -> str | None:
        """None unless somebody must act; Docker or etcd being away is not a reason to restart us."""
        return self._agent.denied

    def readiness(self) -> str | None:
        """None while the container is known and the registry agrees."""
        if self._life.stopping.is_set():
            return "stopping"
        if not self._agent.seen.is_set():
            return "docker was not reached yet"
        if not self._keeper.grants:
            return "etcd was not reached yet"
        return None if self._agent.settled else "the registry does not hold what it should yet"

    def status(self) -> dict[str, Any]:
        """The status document; every duration in seconds."""
        agent, want = self._agent, self._agent.wanted
        return {
            "program": "registrar",
            "uptime": round(time.monotonic() - self._life.started, 3),
            "ready": self.readiness() is None,
            "service": self._settings.service,
            "container": {
                "name": self._settings.container,
                "id": agent.view.run.container if agent.view.run else None,
                "state": _state(want),
                "why": want.text if isinstance(want, Refusal) else None,
            },
            "wanted": _record(want, agent.record) if isinstance(want, Instance) else None,
            "held": _record(agent.held, agent.record),
            "docker": {"url": self._engine.url, "connected": self._engine.connected},
            "etcd": {
                "endpoint": self._etcd.endpoint,
                "connected": self._etcd.connected,
                "last_error": self._etcd.last_error,
            },
            "lease": {"id": f"{self._keeper.lease:x}", "state": self._keeper.state.value},
        }

    def collect(self) -> Iterator[Metric]:
        """The metrics, in Prometheus' own naming conventions."""
        agent = self._agent
        yield _gauge("registered", "1 while a record is held.", agent.held is not None)
        yield _gauge("settled", "1 while the registry holds what it should.", agent.settled)
        yield _gauge("docker_connected", "1 while the Docker daemon answers.", self._engine.connected)
        yield _gauge("etcd_connected", "1 while etcd answers.", self._etcd.connected)
        yield _gauge("lease_held", "1 while the lease is known to live.", self._keeper.state is Lease.HELD)
        yield _gauge("loop_lag_seconds", "Lateness of the event loop.", self._life.loop_lag)
        yield _counter("docker_reconnects", "Attempts to reach the daemon again.", self._engine.reconnects)
        yield _counter("inspections", "Looks at the container.", agent.counters["inspections"])
        yield _counter("holds", "Records written or changed.", agent.counters["hold"])
        yield _counter("releases", "Records deleted.", agent.counters["release"])


def _state(want: Instance | Refusal | None) -> str:
    """One word: unknown, a Refusal's reason, up or draining."""
    if want is None:
        return "unknown"
    return want.reason.value if isinstance(want, Refusal) else want.readiness.value


def _record(instance: Instance | None, record: str | None) -> dict[str, Any] | None:
    if instance is None:
        return None
    return {"id": record or instance.id, "address": str(instance.address), "state": instance.readiness.value}


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"amb_registrar_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"amb_registrar_{name}", text, value=value)
