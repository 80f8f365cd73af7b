"""redis-benchmark through each subject: GETs over 50 connections, over one, pipelined, and a connection per GET."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from bench.hosts import CannotRunError, Scene
from bench.machine import settle
from bench.subjects import BULK_ONLY, REDIS, SUBJECTS, Subject
from bench.visit import Effort, Figure, Meter, Workload, at_work


@dataclass(frozen=True)
class Load:
    """One way to call redis-benchmark. `probe` requests tell how many make the wanted seconds."""

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


def measure(subject: Subject, effort: Effort) -> Iterator[Figure]:
    """Rate, latencies and the machine's CPU per request of each load."""
    with at_work(subject) as (scene, running):
        for load in LOADS:
            rate = benchmark(scene, running.address, load.options, load.probe)["rps"]
            settle()
            count = max(load.probe, int(rate * effort.requests))
            with Meter() as meter:
                result = benchmark(scene, running.address, load.options, count)
            unit = "connections/s" if load.connects else "requests/s"
            yield Figure(load.workload, "rate", unit, result["rps"])
            yield Figure(load.workload, "p50", "ms", result["p50_latency_ms"])
            yield Figure(load.workload, "p99", "ms", result["p99_latency_ms"])
            yield Figure(load.workload, "cpu", "µs/request", 1e6 * meter.busy / count)


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


WORKLOAD = Workload("requests", tuple(name for name in SUBJECTS if name != BULK_ONLY), measure, quick=True)
