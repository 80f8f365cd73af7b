"""From samples to the summary's rows. Pure.

A ratio is the median over the rounds of (the subject's value / the other's value in the same round): what the machine
did to a whole round cancels out. So it may differ a little from the quotient of the medians beside it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CONDITIONS = {"connections", "errors", "slow"}  # metrics that are counts: a ratio of them means nothing

Values = Mapping[int, float]  # round -> value


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of one round."""

    round: int
    workload: str
    subject: str
    metric: str
    unit: str
    value: float


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over all rounds. A ratio is None where there is nothing to divide by."""

    workload: str
    subject: str
    metric: str
    unit: str
    median: float
    min: float
    max: float
    ratio_direct: float | None
    ratio_haproxy: float | None
    rounds: int


def summarise(samples: Iterable[Sample], rivals: Mapping[str, str]) -> list[Row]:
    """One row for each workload, metric and subject, in the order in which they first came.

    `rivals` names the HAProxy that each subject is compared with; a subject without one has no such ratio.
    """
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    units: dict[tuple[str, str], str] = {}
    for sample in samples:
        values.setdefault((sample.workload, sample.metric, sample.subject), {})[sample.round] = sample.value
        units[sample.workload, sample.metric] = sample.unit
    rows = []
    for (workload, metric, subject), own in values.items():
        compared = metric not in CONDITIONS
        direct = values.get((workload, metric, "direct"), {}) if compared else {}
        rival = values.get((workload, metric, rivals.get(subject, "")), {}) if compared else {}
        figures = list(own.values())
        rows.append(
            Row(
                workload,
                subject,
                metric,
                units[workload, metric],
                rounded(statistics.median(figures)),
                rounded(min(figures)),
                rounded(max(figures)),
                ratio(own, direct),
                ratio(own, rival),
                len(figures),
            )
        )
    return rows


def ratio(own: Values, other: Values) -> float | None:
    """The median of the quotients of rounds that both have; None when there is none."""
    quotients = [value / other[number] for number, value in own.items() if other.get(number)]
    return round(statistics.median(quotients), 3) if quotients else None


def rounded(value: float) -> float:
    """Five significant digits: more is noise."""
    return float(f"{value:.5g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all are not above. `values` must not be empty."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
