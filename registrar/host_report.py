"""What registrar says of all containers of a host: which are registered, which are not and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ambcore.findings import Finding, Level
from ambcore.registration.extract import SHORT_ID, Refusal
from registrar.explain import Kept, Known, explain_all
from registrar.host_agent import HostAgent
from registrar.host_plan import Key
from registrar.means import Means
from registrar.metrics import HostMetrics
from registrar.report import Report


class HostReport(Report):
    """Of every container."""

    def __init__(self, means: Means, agent: HostAgent) -> None:
        super().__init__(means, agent, HostMetrics(means, agent))
        self._all = agent

    def about(self) -> dict[str, Any]:
        """What is registered, in the order of keys, and what is not, in the order of containers' names."""
        agent = self._all
        return {
            "containers": len(agent.views),
            "registered": [self._record(key) for key in sorted(agent.held)],
            "waiting": sorted("/".join(key) for key in agent.wanted.instances if agent.held.get(key) is None),
            "not_registered": sorted(
                (
                    {"container": self._name(container), "state": refusal.reason.value, "why": refusal.text}
                    for container, refusals in agent.wanted.refusals.items()
                    for refusal in refusals
                ),
                key=lambda entry: (entry["container"], entry["why"]),
            ),
            "unseen": {container[:SHORT_ID]: why for container, why in agent.inventory.blind.items()},
        }

    def explain(self, name: str) -> Sequence[Finding]:
        """Of containers, services and instances."""
        agent = self._all
        if agent.conventions is None:
            return (Finding(Level.UNKNOWN, "docker", f"{self._means.engine.url} has not answered yet"),)
        kept: dict[str, list[Kept]] = {}
        superseded = agent.superseded
        for key, instance in agent.wanted.instances.items():
            made = Kept(instance, agent.records.get(key) if key in agent.held else None, key in superseded)
            kept.setdefault(instance.container or "", []).append(made)
        unanswered = self.complaints()
        known = (
            Known(
                looked,
                tuple(kept.get(container, ())),
                tuple(self._refused_since(container)),
                tuple(unanswered.get(container, ())),
            )
            for container, looked in sorted(agent.looked.items(), key=lambda each: str(each[1].get("Name")))
        )
        return explain_all(name, known, agent.conventions, agent.host, self.keeping())

    def _refused_since(self, container: str) -> Iterator[Refusal]:
        """What the inspection alone did not come to: that it has ended since, or that another has its key."""
        view = self._all.views.get(container)
        seen = view.verdict.refusals if view is not None and view.verdict is not None else ()
        yield from (each for each in self._all.wanted.refusals.get(container, ()) if each not in seen)

    def _name(self, container: str) -> str:
        view = self._all.views.get(container)
        return view.name if view else container[:SHORT_ID]

    def _record(self, key: Key) -> dict[str, Any]:
        instance = self._all.held[key]
        return {
            "service": instance.service,
            "id": self._all.records.get(key, instance.id),
            "address": str(instance.address),
            "protocol": instance.protocol.value,
            "state": instance.readiness.value,
            "container": self._name(instance.container or ""),
        }
