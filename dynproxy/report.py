"""What dynproxy says about itself: health, readiness and the status document."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ambcore.fleet import Drain
from ambcore.health import Health
from ambcore.hold import Missing
from ambcore.model import Instance
from ambcore.text import visible
from ambnet.announce import NOT_ANNOUNCED
from ambnet.daemon import Life
from ambnet.http import Admin
from ambnet.metrics import OfEveryProgram, registry
from ambnet.page.history import LOST, Counts
from ambnet.relay.protocol import InstanceStats, ServiceStats
from dynproxy.explain import OLD, explain
from dynproxy.metrics import Metrics
from dynproxy.parts import Parts
from dynproxy.plane import PlaneStats
from dynproxy.planes import only_relay
from dynproxy.room import room
from dynproxy.sources import EtcdSource, Source

if TYPE_CHECKING:
    from dynproxy.docker_source import Containers

NOBODY = ServiceStats()
NOTHING = InstanceStats()


class Report:
    """Reads the parts it is given whenever it is asked; keeps nothing itself."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._etcd = parts.etcd
        self._containers = parts.containers
        self._links = parts.links
        self._following = parts.following
        self._plane = parts.plane
        self._health = parts.health
        self._life = parts.life

    def admin(self) -> Admin:
        """The admin server's answers."""
        common = OfEveryProgram("dynproxy", self._life, self.health, self.readiness)
        metrics = registry(common, Metrics(self._parts))
        return Admin(
            self.health,
            self.readiness,
            self.status,
            metrics,
            lambda name: explain(name, self.status()),
            self.traffic,
            self.stale,
        )

    def health(self) -> str | None:
        """None while bytes can be carried and nobody has to act; etcd being away is not a reason to restart us."""
        if not self._plane.stats(again_soon=False).healthy:
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

    def stale(self) -> str:
        """What is served without being known to be current, empty if nothing: said to whoever asks if we are ready."""
        sights = [(source.service, source.sight()) for source in self._following.sources]
        old = [
            f"{service} is {sight.age:.0f} s old"
            for service, sight in sights
            if sight.age is not None and (sight.recalled or sight.age > OLD)
        ]
        return f"what is known of {', '.join(old)}" if old else ""

    def traffic(self) -> dict[str, Counts]:
        """What each service carried, by either plane; `failed` are connects that an instance did not answer, and
        clients that no instance was asked for.
        """
        stats = self._plane.stats(again_soon=False)
        result = {}
        for source in self._following.sources:
            relay, kernel = stats.services.get(source.service, NOBODY), stats.serves(source.service).traffic
            items = relay.instances.values()
            result[source.service] = Counts(
                sum(item.connections for item in items),
                kernel.connections + sum(item.connections_total for item in items),
                kernel.bytes + sum(item.bytes_in + item.bytes_out for item in items),
                sum(item.connect_failures for item in items) + sum(relay.counters.get(name, 0) for name in LOST),
            )
        return result

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
                "only_relay": only_relay(self._settings) or None,
                "room": dataclasses.asdict(room(self._settings, stats)),
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
            "fleet": self._fleet(),
            "memory": self._memory(),
            "services": [self._service(source, stats) for source in self._following.sources],
        }

    def _fleet(self) -> dict[str, Any] | None:
        """What the fleet knows of us, and we of it; None without etcd."""
        drains, announcer = self._parts.drains, self._parts.announcer
        if drains is None:
            return None
        return {
            **(announcer.status() if announcer else NOT_ANNOUNCED),
            "drains": {
                "known": drains.known,
                "denied": drains.denied,
                "last_error": drains.last_error,
                "view_age": _rounded(drains.age()),
                "count": len(drains.drains),
                "refused": [
                    {"key": visible(key.decode(errors="replace")), "why": visible(why)}
                    for key, why in sorted(drains.drains.refused.items())
                ],
            },
        }

    def _memory(self) -> dict[str, Any] | None:
        """Where what etcd tells is kept for the next life; None if nowhere."""
        memory = self._parts.memory
        if memory is None or memory.directory is None:
            return None
        return {"directory": str(memory.directory), "error": memory.error}

    def _service(self, source: Source, stats: PlaneStats) -> dict[str, Any]:
        traffic = stats.services.get(source.service, NOBODY)
        serving = stats.serves(source.service)
        health = self._health.state(source.service)
        known = frozenset(item.id for item in source.served or ())
        sight = source.sight()
        held = {each.instance.id: each for each in source.holding.held} if isinstance(source, EtcdSource) else {}
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
            "recalled": sight.recalled,
            "error": sight.error,
            "parked": traffic.parked,
            "counters": dict(traffic.counters),
            "instances": None
            if source.served is None
            else [
                _instance(
                    item,
                    self._following.since(item),
                    self._following.share(item),
                    traffic.instances.get(item.id, NOTHING),
                    health.instances.get(item.id),
                    item.id in serving.refusing,
                    source.drained_by(item) if isinstance(source, EtcdSource) else None,
                    held.get(item.id),
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


def _instance(  # noqa: PLR0917 - each from another part
    instance: Instance,
    since: float | None,
    share: float,
    traffic: InstanceStats,
    health: Health | None,
    refusing: bool,
    drain: Drain | None,
    held: Missing | None,
) -> dict[str, Any]:
    ejected = traffic.ejected or refusing or (health is not None and health.down)
    return {
        "id": instance.id,
        "address": str(instance.address),
        "protocol": instance.protocol.value,
        "state": "ejected" if ejected else instance.readiness.value,
        "refusing": refusing,
        "check": None if health is None else {"state": health.state.value, "seconds": health.took, "why": health.why},
        "weight": instance.weight,
        "share": share,
        "owner": instance.owner,
        "since": None if since is None else round(since),
        "drained": None
        if drain is None
        else {"by": drain.by, "since": drain.since, "why": drain.why, "host": drain.host or None},
        "held": None
        if held is None
        else {"since": round(time.time() - (time.monotonic() - held.since)), "why": held.loss.value},
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

    common = OfEveryProgram("dynproxy", life, lambda: None, readiness)
    return Admin(lambda: None, readiness, status, registry(common))


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
