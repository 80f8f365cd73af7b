"""What the figures are meant to reach, and what they do reach. Pure.

Ratios and rates are judged by their medians; errors, slow connections and the time to notice by the worst round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.rounds import Row

Rows = Mapping[tuple[str, str, str], Row]  # workload, subject, metric -> row


@dataclass(frozen=True)
class Target:
    """`reached` gives the value, None when it was not measured; `bound` is the worst value that will do."""

    text: str
    reached: Callable[[Rows], float | None]
    at_least: bool
    bound: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a value is good enough."""
        return value >= self.bound if self.at_least else value <= self.bound


def of(workload: str, subject: str, metric: str, field: str = "median") -> Callable[[Rows], float | None]:
    """One field of one row."""

    def reached(rows: Rows) -> float | None:
        row = rows.get((workload, subject, metric))
        return None if row is None else getattr(row, field)

    return reached


def against(workload: str, other: str, subject: str, metric: str) -> Callable[[Rows], float | None]:
    """A median as a share of another workload's."""

    def reached(rows: Rows) -> float | None:
        own, base = rows.get((workload, subject, metric)), rows.get((other, subject, metric))
        return None if own is None or base is None or not base.median else round(own.median / base.median, 3)

    return reached


def summed(workload: str, subject: str, *metrics: str) -> Callable[[Rows], float | None]:
    """The sum of several medians of one subject."""

    def reached(rows: Rows) -> float | None:
        found = [rows[workload, subject, metric].median for metric in metrics if (workload, subject, metric) in rows]
        return sum(found) if len(found) == len(metrics) else None

    return reached


def slow_of_5000(workload: str, subject: str) -> Callable[[Rows], float | None]:
    """How many of 5,000 connections took longer than 1 s, in the worst round."""

    def reached(rows: Rows) -> float | None:
        slow, all_ = (rows.get((workload, subject, metric)) for metric in ("slow", "connections"))
        return None if slow is None or all_ is None else round(5_000 * slow.max / all_.median, 3)

    return reached


def _at_least(text: str, bound: float, reached: Callable[[Rows], float | None], unit: str = "") -> Target:
    return Target(text, reached, at_least=True, bound=bound, unit=unit)


def _at_most(text: str, bound: float, reached: Callable[[Rows], float | None], unit: str = "") -> Target:
    return Target(text, reached, at_least=False, bound=bound, unit=unit)


IDLE = ("cpu idle, control", "cpu idle, workers")

TARGETS: Sequence[Target] = (
    _at_least("kernel: GET/s, 50 connections, of direct", 0.97, of("get-50", "kernel", "rate", "ratio_direct")),
    _at_least("kernel: GET/s, 50 connections, of HAProxy", 1.35, of("get-50", "kernel", "rate", "ratio_haproxy")),
    _at_most("kernel: p99 of these, of HAProxy", 0.65, of("get-50", "kernel", "p99", "ratio_haproxy")),
    _at_least("kernel: bulk, of direct", 0.97, of("bulk-1", "kernel", "throughput", "ratio_direct")),
    _at_least("kernel: new connections/s, of HAProxy", 1.1, of("connections", "kernel", "rate", "ratio_haproxy")),
    _at_most("kernel: machine CPU per GET, of HAProxy", 0.75, of("get-50", "kernel", "cpu", "ratio_haproxy")),
    _at_least("relay: GET/s, 50 connections, of HAProxy", 1.0, of("get-50", "relay-1", "rate", "ratio_haproxy")),
    _at_least("relay: new connections/s, of HAProxy", 0.95, of("connections", "relay-1", "rate", "ratio_haproxy")),
    _at_least("relay: bulk, of HAProxy", 1.5, of("bulk-1", "relay-1", "throughput", "ratio_haproxy")),
    _at_most("relay: p99, 50 connections, of HAProxy", 1.1, of("get-50", "relay-1", "p99", "ratio_haproxy")),
    _at_most("relay: private memory per idle connection", 3, of("idle", "relay-1", "memory"), "KiB"),
    _at_most("kernel: etcd to rule, 10,000 instances, p99", 100, of("table-10000", "kernel", "applied p99"), "ms"),
    _at_most("relay: etcd to table, 10,000 instances, p99", 50, of("table-10000", "relay-1", "applied p99"), "ms"),
    _at_most("kernel: idle CPU, 10,000 instances", 0.5, summed("table-10000", "kernel", *IDLE), "% of a core"),
    _at_most("relay: idle CPU, 10,000 instances", 0.5, summed("table-10000", "relay-1", *IDLE), "% of a core"),
    *(
        target
        for workload, text in (("refusing", "one of two refuses"), ("refusing-orphaned", "that, dynproxy killed"))
        for target in (
            _at_most(f"kernel: {text}: errors", 0, of(workload, "kernel", "errors", "max")),
            _at_most(f"kernel: {text}: slower than 1 s, of 5,000", 1, slow_of_5000(workload, "kernel")),
            _at_least(f"kernel: {text}: rate, of both alive", 0.95, against(workload, "two-alive", "kernel", "rate")),
        )
    ),
    _at_most("kernel: one of two swallows: errors", 0, of("swallowing", "kernel", "errors", "max")),
    _at_most("kernel: one of two swallows: out after", 3, of("swallowing", "kernel", "noticed", "max"), "s"),
)
