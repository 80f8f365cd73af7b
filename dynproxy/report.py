"""What dynproxy says about itself: health, readiness, the status document and the metrics."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ambcore.health import Health, Verdict
from ambcore.model import Instance
from ambcore.states import Watch
from ambnet.daemon import Life
from ambnet.etcd import Etcd
from ambnet.http import Admin
from ambnet.relay.protocol import InstanceStats, ServiceStats
from dynproxy.config import Settings
from dynproxy.following import Following
from dynproxy.health import HealthChecks
from dynproxy.plane import DataPlane, PlaneStats
from dynproxy.sources import EtcdSource, Source

if TYPE_CHECKING:
    from dynproxy.docker_source import Containers
    from dynproxy.links import Links

NOBODY = ServiceStats()
NOTHING = InstanceStats()


class Report(Collector):
    """Reads the parts it is given whenever it is asked; keeps nothing itself."""

    def __init__(  # noqa: PLR0917 - each part once, in the order in which they are made
        self,
        settings: Settings,
        etcd: Etcd | None,
        containers: Containers | None,
        links: Links | None,
        following: Following,
        plane: DataPlane,
        health: HealthChecks,
        life: Life,
    ) -> None:
        self._settings = settings
        self._etcd = etcd
        self._containers = containers
        self._links = links
        self._following = following
        self._plane = plane
        self._health = health
        self._life = life

    def admin(self) -> Admin:
        """The admin server's four answers."""
        registry = CollectorRegistry()
        registry.register(self)
        return Admin(self.health, self.readiness, self.status, registry)

    def health(self) -> str | None:
        """None while bytes can be carried and nobody has to act; etcd being away is not a reason to restart us."""
        if not self._plane.stats().healthy:
            return "a data plane process is down"
        sights = ((source.service, source.sight()) for source in self._following.sources)
        return next((f"{service}: {sight.error}" for service, sight in sights if sight.denied), None)

    def readiness(self) -> str | None:
        """None once every service is known and until we stop."""
        if self._life.stopping.is_set():
            return "stopping"
        if self._containers is not None and not self._containers.in_line.is_set():
            return "containers are not known yet"
        if self._links is not None and not self._links.known.is_set():
            return "consumers are not known yet"
        unknown = [source.service for source in self._following.sources if not source.known.is_set()]
        return f"not known yet: {', '.join(unknown)}" if unknown else None

    async def known(self) -> None:
        """Until every service is known that is followed from the start."""
        if self._containers is not None:
            await self._containers.in_line.wait()
        if self._links is not None:
            await self._links.known.wait()
        await self._following.known()

    def status(self) -> dict[str, Any]:
        """The status document; every duration in seconds, every size in bytes."""
        stats = self._plane.stats()
        return {
            "program": "dynproxy",
            "uptime": round(time.monotonic() - self._life.started, 3),
            "ready": self.readiness() is None,
            "plane": {
                "name": stats.plane,
                "why": stats.why,
                "processes": list(stats.processes),
                "kernel": None if stats.kernel is None else dataclasses.asdict(stats.kernel),
            },
            "etcd": None
            if self._etcd is None
            else {
                "endpoint": self._etcd.endpoint,
                "connected": self._etcd.connected,
                "last_error": self._etcd.last_error,
                "view_age": _rounded(_oldest(self._following.sources)),
            },
            "docker": None if self._containers is None else _containers(self._containers),
            "links": None if self._links is None else self._links.status(),
            "services": [self._service(source, stats) for source in self._following.sources],
        }

    def _service(self, source: Source, stats: PlaneStats) -> dict[str, Any]:
        traffic = stats.services.get(source.service, NOBODY)
        serving = stats.serves(source.service)
        health = self._health.state(source.service)
        known = frozenset(item.id for item in source.served or ())
        sight = source.sight()
        return {
            "name": source.service,
            "ports": list(
                dict.fromkeys(front.port for front in self._following.fronts if front.service == source.service)
            ),
            "plane": serving.plane,
            "plane_why": serving.why,
            "kernel": dataclasses.asdict(serving.traffic),
            "check_interval": _rounded(health.interval),
            "policy": self._settings.policy,
            "on_removal": str(self._settings.on_removal),
            "watch": sight.watch.value,
            "revision": sight.revision,
            "view_age": _rounded(sight.age),
            "parked": traffic.parked,
            "counters": dict(traffic.counters),
            "instances": None
            if source.served is None
            else [
                _instance(
                    item,
                    traffic.instances.get(item.id, NOTHING),
                    health.instances.get(item.id),
                    item.id in serving.refusing,
                )
                for item in source.served
            ],
            "removed": [
                {"id": name, "connections": gone.connections}
                for name, gone in traffic.instances.items()
                if gone.connections and name not in known
            ],
            "refused": [{"key": key, "why": why} for key, why in sorted(sight.refused.items())],
        }

    def collect(self) -> Iterator[Metric]:
        """The metrics, in Prometheus' own naming conventions."""
        stats = self._plane.stats()
        yield _gauge("amb_plane_healthy", "1 while every data plane process runs.", {}, float(stats.healthy))
        if self._etcd is not None:
            yield _gauge("amb_etcd_connected", "1 while etcd answers.", {}, float(self._etcd.connected))
        if self._containers is not None:
            connected = float(self._containers.engine.connected)
            yield _gauge("amb_docker_connected", "1 while the Docker daemon answers.", {}, connected)
        if self._links is not None:
            opened, refused = self._links.figures
            yield _gauge("amb_link_listeners", "Listeners open for links.", {}, float(opened))
            yield _gauge("amb_links_refused", "Links that are not served.", {}, float(refused))
        yield _gauge("amb_loop_lag_seconds", "Lateness of the control plane's event loop.", {}, self._life.loop_lag)
        yield from self._view_metrics()
        yield from self._traffic_metrics(stats)
        yield from self._kernel_metrics(stats)
        yield from self._health_metrics()

    def _view_metrics(self) -> Iterator[Metric]:
        labels = ["service"]
        age = GaugeMetricFamily("amb_view_age_seconds", "Time since the view was last proven current.", labels=labels)
        watching = GaugeMetricFamily("amb_watch_up", "1 while every change arrives.", labels=labels)
        known = GaugeMetricFamily("amb_instances", "Instances in the registry.", labels=["service", "state"])
        refused = CounterMetricFamily("amb_records_refused", "Refused records.", labels=["service", "reason"])
        drift = CounterMetricFamily("amb_registry_drift", "Differences a safety relist found: 0.", labels=labels)
        for source in self._following.sources:
            name, sight = source.service, source.sight()
            if sight.age is not None:
                age.add_metric([name], sight.age)
            watching.add_metric([name], float(sight.watch is Watch.WATCHING))
            for state in ("up", "draining"):
                known.add_metric([name, state], sum(item.readiness == state for item in source.served or ()))
            for reason, count in sight.rejected.items():
                refused.add_metric([name, reason], count)
            drift.add_metric([name], sight.drift)
        yield from (age, watching, known, refused, drift)

    def _health_metrics(self) -> Iterator[Metric]:
        checks = CounterMetricFamily("amb_health_checks", "Checks by result.", labels=["result"])
        for verdict in Verdict:
            checks.add_metric([verdict.value], self._health.results[verdict])
        down = GaugeMetricFamily("amb_instances_down", "Instances that do not answer checks.", labels=["service"])
        for source in self._following.sources:
            down.add_metric([source.service], len(self._health.unhealthy(source.service)))
        yield from (checks, down)

    def _kernel_metrics(self, stats: PlaneStats) -> Iterator[Metric]:
        labels = ["service"]
        serving = GaugeMetricFamily("amb_plane_info", "1 for the plane that serves.", labels=["service", "plane"])
        new = CounterMetricFamily("amb_kernel_connections", "Connections the kernel took.", labels=labels)
        packets = CounterMetricFamily("amb_kernel_packets", "Packets the kernel forwarded.", labels=labels)
        size = CounterMetricFamily("amb_kernel_bytes", "Bytes the kernel forwarded, with headers.", labels=labels)
        for source in self._following.sources:
            name, state = source.service, stats.serves(source.service)
            serving.add_metric([name, state.plane], 1)
            if stats.kernel is not None:
                new.add_metric([name], state.traffic.connections)
                packets.add_metric([name], state.traffic.packets)
                size.add_metric([name], state.traffic.bytes)
        yield serving
        if stats.kernel is None:
            return
        yield from (new, packets, size)
        events = CounterMetricFamily("amb_kernel_transactions", "Rule changes by outcome.", labels=["outcome"])
        events.add_metric(["done"], stats.kernel.transactions)
        events.add_metric(["failed"], stats.kernel.failures)
        yield events
        for name, text, value in (
            ("amb_kernel_repairs", "Times that others had changed our rules.", stats.kernel.repairs),
            ("amb_kernel_connections_cut", "Connections ended by --on-removal or a drain.", stats.kernel.cut),
            ("amb_kernel_flow_errors", "Times that connections could not be ended.", stats.kernel.flow_errors),
        ):
            yield CounterMetricFamily(name, text, value=value)

    @staticmethod
    def _traffic_metrics(stats: PlaneStats) -> Iterator[Metric]:
        parked = GaugeMetricFamily("amb_parked_connections", "Connections waiting for an instance.", labels=["service"])
        events = CounterMetricFamily("amb_relay_events", "What clients met, by kind.", labels=["service", "event"])
        labels = ["service", "instance"]
        open_now = GaugeMetricFamily("amb_connections_open", "Open connections.", labels=labels)
        total = CounterMetricFamily("amb_connections", "Connections carried.", labels=labels)
        failures = CounterMetricFamily("amb_connect_failures", "Connects an instance did not answer.", labels=labels)
        carried = CounterMetricFamily("amb_bytes", "Bytes carried.", labels=[*labels, "direction"])
        for service, traffic in stats.services.items():
            parked.add_metric([service], traffic.parked)
            for event, count in traffic.counters.items():
                events.add_metric([service, event], count)
            for instance, item in traffic.instances.items():
                open_now.add_metric([service, instance], item.connections)
                total.add_metric([service, instance], item.connections_total)
                failures.add_metric([service, instance], item.connect_failures)
                carried.add_metric([service, instance, "in"], item.bytes_in)
                carried.add_metric([service, instance, "out"], item.bytes_out)
        yield from (parked, events, open_now, total, failures, carried)


def _instance(instance: Instance, traffic: InstanceStats, health: Health | None, refusing: bool) -> dict[str, Any]:
    ejected = traffic.ejected or refusing or (health is not None and health.down)
    return {
        "id": instance.id,
        "address": str(instance.address),
        "protocol": instance.protocol.value,
        "state": "ejected" if ejected else instance.readiness.value,
        "refusing": refusing,
        "check": None if health is None else {"state": health.state.value, "seconds": health.took, "why": health.why},
        "weight": instance.weight,
        "owner": instance.owner,
        "connections": traffic.connections,
        "connections_total": traffic.connections_total,
        "connect_failures": traffic.connect_failures,
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
    }


def before_containers(containers: Containers, life: Life) -> Admin:
    """The answers while a daemon has not told yet what there is to listen for: we live, and wait."""

    def readiness() -> str:
        return f"containers are not known yet: {containers.error or 'docker has not answered'}"

    def status() -> dict[str, Any]:
        uptime = round(time.monotonic() - life.started, 3)
        return {"program": "dynproxy", "uptime": uptime, "ready": False, "docker": _containers(containers)}

    return Admin(lambda: None, readiness, status, CollectorRegistry())


def _containers(containers: Containers) -> dict[str, Any]:
    sight = containers.sight()
    named = {name: containers.seen.get(name) for name in containers.names}
    return {
        "url": containers.engine.url,
        "connected": containers.engine.connected,
        "last_error": sight.error,
        "view_age": _rounded(sight.age),
        "containers": [
            {"name": name, "exists": False}
            if item is None
            else {
                "name": name,
                "exists": True,
                "id": item.id,
                "address": None if item.address is None else str(item.address),
                "why": item.why,
                "ports": [f"{port}/{protocol}" for port, protocol in item.doors],
            }
            for name, item in named.items()
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _oldest(sources: Sequence[Source]) -> float | None:
    ages = [source.sight().age for source in sources if isinstance(source, EtcdSource)]
    return None if None in ages else max((age for age in ages if age is not None), default=None)


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
