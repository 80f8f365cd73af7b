"""registrar's metrics: what is declared here stands in `docs/metrics.md`, and nothing else is told."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ambcore.registration.extract import Reason, Refusal
from ambnet.metrics import (
    ANNOUNCED,
    DOCKER_CONNECTED,
    DOCKER_RECONNECTS,
    ETCD_CONNECTED,
    EVERYWHERE,
    LEASE_GRANTS,
    LEASE_HELD,
    PROCESS,
    Family,
    docker_metrics,
    etcd_metrics,
    fleet_metrics,
    lease_metrics,
)
from registrar.agent import Agent
from registrar.host_agent import HostAgent
from registrar.means import Agents, Means

SETTLED = Family("amb_registrar_settled", "1 while etcd holds what it should.")
REGISTERED = Family("amb_registrar_registered", "Records held in etcd.")
WAITING = Family("amb_registrar_waiting", "Instances that wait to be written to etcd.")
NOT_REGISTERED = Family("amb_registrar_not_registered", "Containers, or ports of them, without a record.", ("reason",))
UNANSWERED = Family("amb_registrar_unanswered", "Instances at whose address nobody has answered registrar yet.")
INSPECTIONS = Family("amb_registrar_inspections_total", "Looks at containers.")
WRITTEN = Family("amb_registrar_records_written_total", "Records written or changed.")
DELETED = Family("amb_registrar_records_deleted_total", "Records deleted.")

# Of a whole host alone
CONTAINERS = Family("amb_registrar_containers", "Containers that the Docker daemon has.")
UNSEEN = Family("amb_registrar_unseen", "Containers that could not be looked at.")
LISTS = Family("amb_registrar_lists_total", "Lists of all containers.")
ORPHANS = Family("amb_registrar_orphans_total", "Records of an earlier life deleted, as their containers had gone.")

OF_RECORDS = (SETTLED, REGISTERED, WAITING, NOT_REGISTERED, UNANSWERED, INSPECTIONS, WRITTEN, DELETED)
OF_HOST = (CONTAINERS, UNSEEN, LISTS, ORPHANS)
OF_OTHERS = (ETCD_CONNECTED, DOCKER_CONNECTED, DOCKER_RECONNECTS, LEASE_HELD, LEASE_GRANTS, ANNOUNCED)
FAMILIES = (*EVERYWHERE, *OF_OTHERS, *OF_RECORDS, *OF_HOST, *PROCESS)

A = TypeVar("A", bound=Agents)


class Metrics(Collector, Generic[A]):
    """Reads an agent and what it works with whenever it is asked; costs nothing in between."""

    def __init__(self, means: Means, agent: A) -> None:
        self._means = means
        self._agent = agent

    @abstractmethod
    def count(self) -> Iterator[Metric]:
        """The metrics of containers."""

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from etcd_metrics(self._means.etcd)
        yield from docker_metrics(self._means.engine)
        yield from lease_metrics(self._means.keeper)
        yield from fleet_metrics(self._means.announcer)
        yield SETTLED.one(self._agent.settled)
        yield WRITTEN.one(self._agent.counters["hold"])
        yield DELETED.one(self._agent.counters["release"])
        yield UNANSWERED.one(len(self._agent.doors.unanswered()))
        yield from self.count()


class ContainerMetrics(Metrics[Agent]):
    """Of the one container that registrar was given."""

    def count(self) -> Iterator[Metric]:
        """The metrics of containers."""
        agent, wanted = self._agent, self._agent.wanted
        refused = isinstance(wanted, Refusal)
        yield REGISTERED.one(agent.held is not None)
        yield WAITING.one(wanted is not None and not refused and agent.held is None)
        yield _by_reason([wanted] if isinstance(wanted, Refusal) else [])
        yield INSPECTIONS.one(agent.counters["inspections"])


class HostMetrics(Metrics[HostAgent]):
    """Of all containers."""

    def count(self) -> Iterator[Metric]:
        """The metrics of containers."""
        agent = self._agent
        yield REGISTERED.one(len(agent.held))
        yield WAITING.one(len(agent.wanted.instances.keys() - agent.held))
        yield _by_reason(refusal for each in agent.wanted.refusals.values() for refusal in each)
        yield INSPECTIONS.one(agent.inventory.looks)
        yield CONTAINERS.one(len(agent.views))
        yield UNSEEN.one(len(agent.inventory.blind))
        yield LISTS.one(agent.inventory.lists)
        yield ORPHANS.one(agent.counters["buried"])


def _by_reason(refusals: Iterable[Refusal]) -> Metric:
    reasons = Counter(refusal.reason for refusal in refusals)
    return NOT_REGISTERED.of({(reason.value,): reasons[reason] for reason in Reason})
