"""dynproxy's metrics: what is declared here stands in `docs/metrics.md`, and nothing else is told.

Whoever sums over services and instances finds each client counted once: in the kernel's figures or in the relay's.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ambcore.health import Verdict
from ambcore.states import Watch
from ambnet.metrics import (
    ANNOUNCED,
    DOCKER_CONNECTED,
    DOCKER_RECONNECTS,
    ETCD_CONNECTED,
    EVERYWHERE,
    PROCESS,
    Family,
    docker_metrics,
    etcd_metrics,
    fleet_metrics,
)
from ambnet.relay.protocol import InstanceStats, ServiceStats
from dynproxy.cost import Cost
from dynproxy.parts import Parts
from dynproxy.plane import PlaneStats
from dynproxy.planes import only_relay
from dynproxy.series import Series
from dynproxy.sources import EtcdSource, Source

NOBODY = ServiceStats()

SERVICE = ("service",)
INSTANCE = ("service", "upstream")  # Prometheus has a label `instance` of its own

# What is known of services
VIEW_AGE = Family("amb_view_age_seconds", "Time since what is known of a service was last proven current.", SERVICE)
WATCH_UP = Family("amb_watch_up", "1 while every change of a service's records arrives.", SERVICE)
INSTANCES = Family("amb_instances", "Instances known, by what their records say.", ("service", "state"))
EJECTED = Family("amb_instances_ejected", "Instances that are asked last, as they failed a client or a check.", SERVICE)
DOWN = Family("amb_instances_down", "Instances that do not answer checks.", SERVICE)
REFUSED_NOW = Family("amb_refused_records", "Records that are refused now.", SERVICE)
REFUSED = Family(
    "amb_records_refused_total", "Records that were refused, each time they were read.", ("service", "reason")
)
DRIFT = Family("amb_registry_drift_total", "Differences that a safety relist found; there should be none.", SERVICE)
HELD = Family("amb_instances_held", "Instances that are served though their records are gone.", SERVICE)
HELD_TOTAL = Family(
    "amb_instances_held_total", "Times that an instance was served on though its record was gone.", SERVICE
)
RECALLED = Family("amb_view_recalled", "1 while what is known of a service is what a process before knew.", SERVICE)
CHECKS = Family("amb_health_checks_total", "Health checks by their result.", ("result",))

# What carries bytes
HEALTHY = Family("amb_plane_healthy", "1 while every process runs that carries bytes.")
PLANE = Family("amb_plane_info", "Always 1; which plane takes a service's new connections.", ("service", "plane"))
FALLBACK = Family("amb_relay_fallback", "1 while the relay serves whom the kernel should.", SERVICE)
UPDATES = Family("amb_plane_updates_total", "Times that the planes were told of a service.")
WORKERS = Family("amb_relay_workers", "Worker processes of the relay that serve.")
RESTARTS = Family("amb_relay_worker_restarts_total", "Workers of the relay that had to be replaced.")
WORKERS_TIME = Family("amb_relay_workers_cpu_seconds_total", "Processor time of the relay's workers.")
WORKERS_MEMORY = Family("amb_relay_workers_resident_memory_bytes", "Memory that the relay's workers have resident.")
PARKED = Family("amb_relay_parked_connections", "Clients that wait for an instance.", SERVICE)
EVENTS = Family("amb_relay_events_total", "What clients of the relay met, by kind.", ("service", "event"))
OPEN = Family("amb_relay_connections_open", "Connections that the relay carries.", INSTANCE)
CONNECTIONS = Family("amb_relay_connections_total", "Connections that the relay carried.", INSTANCE)
FAILURES = Family("amb_relay_connect_failures_total", "Connects that an instance did not answer.", INSTANCE)
BYTES = Family(
    "amb_relay_bytes_total",
    "Bytes that the relay carried: in to an instance, out to a client.",
    (*INSTANCE, "direction"),
)
KERNEL_CONNECTIONS = Family("amb_kernel_connections_total", "Connections that the kernel took.", SERVICE)
KERNEL_PACKETS = Family("amb_kernel_packets_total", "Packets that the kernel forwarded, both ways.", SERVICE)
KERNEL_BYTES = Family("amb_kernel_bytes_total", "Bytes that the kernel forwarded, both ways, with headers.", SERVICE)
TRANSACTIONS = Family("amb_kernel_transactions_total", "Changes of the kernel's rules, by outcome.", ("outcome",))
REPAIRS = Family("amb_kernel_repairs_total", "Times that somebody else had changed our rules.")
CUT = Family("amb_kernel_connections_cut_total", "Connections ended by --on-removal or a drain.")
FLOW_ERRORS = Family("amb_kernel_flow_errors_total", "Times that connections could not be ended or forgotten.")

# Links that containers ask for
LISTENERS = Family("amb_link_listeners", "Listeners open for links.")
NOT_SERVED = Family("amb_links_refused", "Links that containers ask for and do not get.")

OF_SERVICES = (
    VIEW_AGE,
    WATCH_UP,
    RECALLED,
    INSTANCES,
    EJECTED,
    DOWN,
    HELD,
    HELD_TOTAL,
    REFUSED_NOW,
    REFUSED,
    DRIFT,
    CHECKS,
)
OF_RELAY = (
    HEALTHY,
    PLANE,
    FALLBACK,
    UPDATES,
    WORKERS,
    RESTARTS,
    WORKERS_TIME,
    WORKERS_MEMORY,
    PARKED,
    EVENTS,
    OPEN,
    CONNECTIONS,
    FAILURES,
    BYTES,
)
OF_KERNEL = (KERNEL_CONNECTIONS, KERNEL_PACKETS, KERNEL_BYTES, TRANSACTIONS, REPAIRS, CUT, FLOW_ERRORS)
# What operators decided
DRAINS_KNOWN = Family("amb_drains_known", "1 while it is known which instances and hosts operators drained.")
DRAINS = Family("amb_drains", "Instances and hosts that operators drained, whether or not they are served here.")

OF_OTHERS = (ETCD_CONNECTED, DOCKER_CONNECTED, DOCKER_RECONNECTS, ANNOUNCED)
OF_FLEET = (DRAINS_KNOWN, DRAINS, LISTENERS, NOT_SERVED)
FAMILIES = (*EVERYWHERE, *OF_OTHERS, *OF_FLEET, *OF_SERVICES, *OF_RELAY, *OF_KERNEL, *PROCESS)


class Metrics(Collector):
    """Reads the parts whenever it is asked; costs nothing in between, and keeps but the sums of a large fleet."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._series = Series()
        self._workers = Cost()

    def collect(self) -> Iterator[Metric]:
        """All of them, but for those of parts that this dynproxy does not have."""
        parts = self._parts
        stats = parts.plane.stats()
        if parts.etcd is not None:
            yield from etcd_metrics(parts.etcd)
        if docker := parts.containers or parts.links:
            yield from docker_metrics(docker.engine)
        yield from fleet_metrics(parts.announcer)
        if parts.drains is not None:
            yield DRAINS_KNOWN.one(parts.drains.known and not parts.drains.denied)
            yield DRAINS.one(len(parts.drains.drains))
        if parts.links is not None:
            opened, refused = parts.links.figures
            yield LISTENERS.one(opened)
            yield NOT_SERVED.one(refused)
        yield from self._of_services(stats)
        yield CHECKS.of({(verdict.value,): parts.health.results[verdict] for verdict in Verdict})
        yield from self._of_planes(stats)
        yield from self._of_clients(stats)
        yield from self._of_instances(stats)

    def _of_services(self, stats: PlaneStats) -> Iterator[Metric]:
        sources = self._parts.following.sources
        sights = {source.service: source.sight() for source in sources}
        yield VIEW_AGE.of({(name,): sight.age for name, sight in sights.items() if sight.age is not None})
        yield WATCH_UP.of({(name,): sight.watch is Watch.WATCHING for name, sight in sights.items()})
        yield INSTANCES.of(
            {
                (source.service, state): sum(item.readiness == state for item in source.served or ())
                for source in sources
                for state in ("up", "draining")
            }
        )
        down = {source.service: self._parts.health.unhealthy(source.service) for source in sources}
        yield EJECTED.of({(source.service,): _ejected(source, stats, down[source.service]) for source in sources})
        yield DOWN.of({(name,): len(ids) for name, ids in down.items()})
        records = [source for source in sources if isinstance(source, EtcdSource)]
        yield HELD.of({(source.service,): len(source.holding.held) for source in records})
        yield HELD_TOTAL.of({(source.service,): source.holding.total for source in records})
        yield RECALLED.of({(name,): sight.recalled for name, sight in sights.items()})
        yield REFUSED_NOW.of({(name,): len(sight.refused) for name, sight in sights.items()})
        yield REFUSED.of(
            {(name, reason): count for name, sight in sights.items() for reason, count in sight.rejected.items()}
        )
        yield DRIFT.of({(name,): sight.drift for name, sight in sights.items()})

    def _of_planes(self, stats: PlaneStats) -> Iterator[Metric]:
        services = [source.service for source in self._parts.following.sources]
        serving = {service: stats.serves(service) for service in services}
        yield HEALTHY.one(stats.healthy)
        yield PLANE.of({(service, state.plane): 1 for service, state in serving.items()})
        yield FALLBACK.of(
            {(source.service,): self._falls_back(source, stats) for source in self._parts.following.sources}
        )
        yield UPDATES.one(stats.updates)
        yield WORKERS.one(len(stats.processes))
        yield RESTARTS.one(stats.restarts)
        self._workers.look(stats.processes)
        yield WORKERS_TIME.one(self._workers.seconds)
        yield WORKERS_MEMORY.one(self._workers.memory)
        if stats.kernel is None:
            return
        yield KERNEL_CONNECTIONS.of({(service,): state.traffic.connections for service, state in serving.items()})
        yield KERNEL_PACKETS.of({(service,): state.traffic.packets for service, state in serving.items()})
        yield KERNEL_BYTES.of({(service,): state.traffic.bytes for service, state in serving.items()})
        yield TRANSACTIONS.of({("done",): stats.kernel.transactions, ("failed",): stats.kernel.failures})
        yield REPAIRS.one(stats.kernel.repairs)
        yield CUT.one(stats.kernel.cut)
        yield FLOW_ERRORS.one(stats.kernel.flow_errors)

    def _falls_back(self, source: Source, stats: PlaneStats) -> bool:
        """Whether clients are relayed though the settings leave the choice, and there is somebody to send them to."""
        if only_relay(self._parts.settings) or stats.serves(source.service).plane == "kernel":
            return False
        down = self._parts.health.unhealthy(source.service)
        return any(item.takes_new and item.id not in down for item in source.served or ())

    def _of_clients(self, stats: PlaneStats) -> Iterator[Metric]:
        yield PARKED.of({(service,): traffic.parked for service, traffic in stats.services.items()})
        yield EVENTS.of(
            {
                (service, event): count
                for service, traffic in stats.services.items()
                for event, count in traffic.counters.items()
            }
        )

    def _of_instances(self, stats: PlaneStats) -> Iterator[Metric]:
        numbers = self._numbers(stats)
        yield OPEN.of({key: item.connections for key, item in numbers.items()})
        yield CONNECTIONS.of({key: item.connections_total for key, item in numbers.items()})
        yield FAILURES.of({key: item.connect_failures for key, item in numbers.items()})
        yield BYTES.of(
            {
                (*key, way): size
                for key, item in numbers.items()
                for way, size in (("in", item.bytes_in), ("out", item.bytes_out))
            }
        )

    def _numbers(self, stats: PlaneStats) -> dict[tuple[str, str], InstanceStats]:
        """The relay's numbers by service and instance, of those that are known now or have connections left."""
        known = {source.service: {item.id for item in source.served or ()} for source in self._parts.following.sources}
        return self._series.take(
            {
                (service, instance): item
                for service, traffic in stats.services.items()
                for instance, item in traffic.instances.items()
                if item.connections or instance in known.get(service, ())
            }
        )


def _ejected(source: Source, stats: PlaneStats, down: frozenset[str]) -> int:
    """How many of a service's instances are asked last now."""
    instances = stats.services.get(source.service, NOBODY).instances
    failed = {name for name, item in instances.items() if item.ejected}
    late = failed | stats.serves(source.service).refusing | down
    return sum(item.id in late for item in source.served or ())
