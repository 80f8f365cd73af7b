"""What registrar says about itself: health, readiness and the status document."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from prometheus_client.registry import Collector

from ambcore.findings import Finding, Level
from ambcore.model import Instance
from ambcore.registration.explain import explain_wish
from ambcore.registration.extract import Refusal, Wish
from ambnet.announce import NOT_ANNOUNCED
from ambnet.http import Admin
from ambnet.metrics import OfEveryProgram, registry
from registrar.agent import Agent
from registrar.answers import Door, complaint
from registrar.explain import Keeping, Kept, called, is_of, record, since, upkeep
from registrar.means import Agents, Means
from registrar.metrics import ContainerMetrics


class Report(ABC):
    """Reads the parts it is given whenever it is asked; keeps nothing itself. What is said of containers is added by
    the one that extends it.
    """

    def __init__(self, means: Means, agent: Agents, metrics: Collector) -> None:
        self._means = means
        self._agent = agent
        self._metrics = metrics

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What the status document says of containers."""

    @abstractmethod
    def explain(self, name: str) -> Sequence[Finding]:
        """What was decided about a name; nothing where there is none of that name."""

    def admin(self) -> Admin:
        """The admin server's answers."""
        common = OfEveryProgram("registrar", self._means.life, self.health, self.readiness)
        return Admin(self.health, self.readiness, self.status, registry(common, self._metrics), self.explain)

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
        if (why := self._means.keeper.missing) is not None:
            return why
        return None if self._agent.settled else "the registry does not hold what it should yet"

    def status(self) -> dict[str, Any]:
        """The status document; every duration in seconds."""
        means = self._means
        return {
            "program": "registrar",
            "uptime": round(time.monotonic() - means.life.started, 3),
            "ready": self.readiness() is None,
            **self.about(),
            "verify": self._verify(),
            "docker": {"url": means.engine.url, "connected": means.engine.connected},
            "etcd": {
                "endpoint": means.etcd.endpoint,
                "connected": means.etcd.connected,
                "last_error": means.etcd.last_error,
            },
            "lease": {"id": f"{means.keeper.lease:x}", "state": means.keeper.state.value},
            "fleet": dict(means.announcer.status() if means.announcer else NOT_ANNOUNCED),
        }

    def complaints(self) -> dict[str, list[Finding]]:
        """Where nobody answers, by container."""
        doors, now = self._agent.doors, time.monotonic()
        found: dict[str, list[Finding]] = {}
        for door in doors.unanswered():
            if (told := complaint(door, now - door.since, doors.verify)) is not None:
                found.setdefault(door.instance.container or "", []).append(told)
        return found

    def _verify(self) -> dict[str, Any]:
        doors = self._agent.doors
        return {"how": doors.verify.value, "unanswered": [_door(door) for door in doors.unanswered()]}

    def keeping(self) -> Keeping:
        """How the records are kept now."""
        etcd, keeper, engine = self._means.etcd, self._means.keeper, self._means.engine
        return Keeping(
            lease=f"{keeper.lease:x}" if keeper.lease else "",
            state=keeper.state,
            missing=keeper.missing or "",
            etcd="" if etcd.connected else etcd.last_error or "it has not answered yet",
            docker="" if engine.connected else f"{engine.url} does not answer",
            denied=self._agent.denied or "",
        )


class ContainerReport(Report):
    """Of the one container that registrar was given."""

    def __init__(self, wish: Wish, means: Means, agent: Agent) -> None:
        super().__init__(means, agent, ContainerMetrics(means, agent))
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

    def explain(self, name: str) -> Sequence[Finding]:
        """Of the container, its service or its record."""
        agent, wish, keeping = self._one, self._wish, self.keeping()
        want, identity = agent.wanted, str((agent.looked or {}).get("Id", ""))
        of_it = isinstance(want, Instance) and is_of(want, agent.record, name)
        if name != wish.service and not of_it and not called(identity, wish.container, name):
            return ()
        if not agent.seen.is_set():
            return (Finding(Level.UNKNOWN, "docker", f"{self._means.engine.url} has not answered yet"),)
        steps = explain_wish(agent.looked, wish, agent.host)
        if isinstance(want, Instance):
            steps = (*steps, record(Kept(want, agent.record if agent.held else None, agent.superseded), keeping))
        steps += tuple(found for each in self.complaints().values() for found in each)
        if isinstance(want, Refusal) and not any(step.level is Level.RED for step in steps):
            steps = (*steps, since(want))
        return (*upkeep(keeping), *steps)


def _state(want: Instance | Refusal | None) -> str:
    """One word: unknown, a Refusal's reason, up or draining."""
    if want is None:
        return "unknown"
    return want.reason.value if isinstance(want, Refusal) else want.readiness.value


def _door(door: Door) -> dict[str, Any]:
    one = door.instance
    return {"service": one.service, "id": one.id, "address": str(one.address), "why": door.why}


def _record(instance: Instance | None, record: str | None) -> dict[str, Any] | None:
    if instance is None:
        return None
    return {"id": record or instance.id, "address": str(instance.address), "state": instance.readiness.value}
