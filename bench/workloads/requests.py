"""redis-benchmark through each subject: GETs over 50 connections, over one, pipelined, and a connection per GET."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from statistics import harmonic_mean, median

from bench.hosts import CannotRunError, Scene
from bench.subjects import BULK_ONLY, REDIS, SUBJECTS, Subject
from bench.visit import Effort, Figure, Meter, Steps, Workload, at_work


@dataclass(frozen=True)
class Load:
    """One way to call redis-benchmark. `probe` requests tell how many make a piece."""

    workload: str
    options: tuple[str, ...]
    probe: int
    connects: bool = False


LOADS = (
    Load("get-50", ("-c", "50"), 5_000),
    Load("get-1", ("-c", "1"), 1_000),
    Load("get-pipelined", ("-c", "50", "-P", "16"), 50_000),
    Load("connections", ("-c", "50", "-k", "0"), 1_000, connects=True),
)


def measure(subject: Subject, effort: Effort) -> Steps:
    """Rate, latencies and the machine's CPU per request of each load. The pieces have as many requests each."""
    with at_work(subject) as (scene, running):
        for load in LOADS:
            rate = benchmark(scene, running.address, load.options, load.probe)["rps"]
            count = max(load.probe, int(rate * effort.requests.seconds))
            pieces = []
            meter = Meter()
            for _ in range(effort.requests.count):
                yield None
                with meter:
                    pieces.append(benchmark(scene, running.address, load.options, count))
            unit = "connections/s" if load.connects else "requests/s"
            yield Figure(load.workload, "rate", unit, harmonic_mean(piece["rps"] for piece in pieces))
            yield Figure(load.workload, "p50", "ms", median(piece["p50_latency_ms"] for piece in pieces))
            yield Figure(load.workload, "p99", "ms", median(piece["p99_latency_ms"] for piece in pieces))
            yield Figure(load.workload, "cpu", "µs/request", 1e6 * meter.busy / (count * len(pieces)))


def benchmark(scene: Scene, address: str, options: tuple[str, ...], count: int, port: int = REDIS) -> dict[str, float]:
    """What redis-benchmark measured over `count` GETs; rates per second, times in ms. Raises CannotRunError."""
    command = ("redis-benchmark", "-h", address, "-p", str(port), "-t", "get", "-n", str(count), "--csv", *options)
    return parse(scene.client.run(*command))


def parse(text: str) -> dict[str, float]:
    """The last line of redis-benchmark's CSV by its headings; what stands before them is warnings.

    Raises CannotRunError when there is no such line.
    """
    _, headings, figures = text.partition('"test"')
    rows = list(csv.DictReader((headings + figures).splitlines()))
    if not rows:
        raise CannotRunError(f"redis-benchmark: {text.strip()[-200:]}")
    row = rows[-1]
    return {name: float(value) for name, value in row.items() if name != "test"}


WORKLOAD = Workload(
    "requests", tuple(name for name in SUBJECTS if name != BULK_ONLY), measure, in_turns=True, quick=True
)
