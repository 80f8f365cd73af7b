"""What registrar says of all containers of a host: which are registered, which are not and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from ambcore.registration.extract import SHORT_ID, Reason
from registrar.host_agent import HostAgent
from registrar.host_plan import Key
from registrar.report import Means, Report, counter, gauge


class HostReport(Report):
    """Of every container."""

    def __init__(self, means: Means, agent: HostAgent) -> None:
        super().__init__(means, agent)
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

    def count(self) -> Iterator[Metric]:
        """How many of what."""
        agent = self._all
        yield gauge("containers", "Containers that the Docker daemon has.", len(agent.views))
        yield gauge("registered", "Records held.", len(agent.held))
        yield gauge("waiting", "Instances that wait to be written.", len(agent.wanted.instances.keys() - agent.held))
        reasons = Counter(refusal.reason for each in agent.wanted.refusals.values() for refusal in each)
        family = GaugeMetricFamily(
            "amb_registrar_not_registered",
            "Containers or ports of them without a record, by reason.",
            labels=["reason"],
        )
        for reason in Reason:
            family.add_metric([reason.value], reasons[reason])
        yield family
        yield gauge("unseen", "Containers that could not be looked at.", len(agent.inventory.blind))
        yield counter("inspections", "Looks at containers.", agent.inventory.looks)
        yield counter("lists", "Lists of all containers.", agent.inventory.lists)
        yield counter("orphans", "Records of an earlier life deleted, their containers gone.", agent.counters["buried"])

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
