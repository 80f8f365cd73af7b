"""What a program's /metrics says, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ambnet.metrics import Family
from tests.support.programs import fetch

Samples = dict[frozenset[tuple[str, str]], float]  # by labels


@dataclass(frozen=True)
class Told:
    """One family as it was told."""

    kind: str
    meaning: str
    samples: Samples


def scraped(admin: str) -> dict[str, Told]:
    """Every family that the admin server at `admin` (host:port) tells, by the name of its samples."""
    status, text = fetch(f"http://{admin}/metrics")
    assert status == 200
    return told(text_string_to_metric_families(text))


def told(families: Iterable[Metric]) -> dict[str, Told]:
    """The same, of families at hand."""
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name not in found, f"{name} is told twice"
        assert {sample.name for sample in family.samples} <= {name}
        samples = {frozenset(sample.labels.items()): sample.value for sample in family.samples}
        assert len(samples) == len(family.samples), f"{name} has a sample twice"
        found[name] = Told(family.type, family.documentation, samples)
    return found


def value(families: dict[str, Told], name: str, **labels: str) -> float:
    """The one sample with exactly these labels."""
    return families[name].samples[frozenset(labels.items())]


def assert_declared(families: dict[str, Told], declared: Iterable[Family]) -> None:
    """Whatever is told is declared, with this type and exactly these labels."""
    known = {family.name: family for family in declared}
    for name, family in families.items():
        assert name in known, f"{name} is told and nowhere declared"
        assert family.kind == known[name].kind
        for labels in family.samples:
            assert {label for label, _ in labels} == set(known[name].labels), name
