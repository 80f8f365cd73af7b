"""A large table: from a write to etcd to the applied change, and what it costs to keep 1 to 10,000 instances.

Each write moves one instance to another address: one write at a time, the next a good 0.1 s after the one before was
applied (0.4 s in the largest table), since dynproxy puts off what comes more often than 20 times a second, or so often
that taking it up would be more than a fifth of its time. Timed is from before the request goes out to etcd, whose own
commit is part of it, to what `bench.witness` says. Every instance answers TCP, so that health checks find them all
well; a fleet is idle when each has been looked at once.
"""

from __future__ import annotations

import random
import time

from bench.hosts import Scene, scene
from bench.machine import cpu_seconds, resident_kib
from bench.registry import Registry, record
from bench.rounds import percentile
from bench.subjects import REDIS, Dynproxy, Subject
from bench.visit import Effort, Figure, Steps, Workload, serve
from bench.witness import KernelWitness, RelayWitness, Witness

PLANES = {"kernel": "kernel", "relay-1": "relay"}
SIZES = (1, 10, 100, 1_000, 10_000)
# Seconds from an applied write to the next, drawn by lot: in step with nothing.
PAUSE, PAUSE_LARGEST = (0.10, 0.13), (0.40, 0.50)
HOMES = 5  # addresses that an instance has in turn
SERVICE = "redis"


def measure(subject: Subject, effort: Effort) -> Steps:
    """The times of single writes at each size, and CPU and memory of the processes with the largest table."""
    with scene() as made:
        serve(made)
        registry = Registry(made.proxy)
        registry.put(instance(0, 0))
        dynproxy, witness = _start(made, PLANES[subject.name])
        have, homes = 1, dict.fromkeys(range(SIZES[-1]), 0)
        for size in SIZES:
            registry.put({key: value for number in range(have, size) for key, value in instance(number, 0).items()})
            have, loaded = size, time.monotonic()
            witness.quiet(1.5, 60)
            writes = effort.writes if size == SIZES[-1] else effort.writes // 4
            spent, started = _spent(dynproxy), time.monotonic()
            times = []
            for number in range(writes):
                which = number % size
                homes[which] = (homes[which] + 1) % HOMES
                times.append(_write(registry, witness, which, homes[which]))
                time.sleep(random.uniform(*(PAUSE_LARGEST if size == SIZES[-1] else PAUSE)))  # noqa: S311
            busy = _share(dynproxy, spent, started)
            yield Figure(f"table-{size}", "applied p50", "ms", 1e3 * percentile(times, 0.5))
            yield Figure(f"table-{size}", "applied p99", "ms", 1e3 * percentile(times, 0.99))
            yield Figure(f"table-{size}", "cpu changing", "% of a core", sum(busy))
        witness.quiet(1.5, 60)
        time.sleep(max(0.0, loaded + effort.settle - time.monotonic()))  # a hundred first checks a second
        spent, started = _spent(dynproxy), time.monotonic()
        time.sleep(effort.idle)
        control, *workers = _share(dynproxy, spent, started)
        yield Figure(f"table-{size}", "cpu idle, control", "% of a core", control)
        yield Figure(f"table-{size}", "cpu idle, workers", "% of a core", sum(workers))
        yield Figure(f"table-{size}", "resident", "MiB", sum(map(resident_kib, _processes(dynproxy))) / 1024)


def instance(number: int, home: int) -> dict[str, dict[str, object]]:
    """The record of an instance at the `home`-th of its addresses; every pair has an address of its own."""
    block, place = divmod(number, 250)
    return {**record(SERVICE, f"i{number:05}", address(block, place, home), REDIS)}  # type: ignore[dict-item]


def address(block: int, place: int, home: int) -> str:
    """Blocks below 50 and homes below 5 fill the 250 blocks of 10.77.0.0/16 that are not its last."""
    return f"10.77.{block + 50 * home}.{place + 1}"


def _start(made: Scene, plane: str) -> tuple[Dynproxy, Witness]:
    services = {SERVICE: REDIS}
    if plane == "kernel":
        witness = KernelWitness(made.proxy)
        return Dynproxy.start(made, plane, services), witness
    dynproxy = Dynproxy.start(made, plane, services, module="bench.timed_dynproxy", talking=True)
    return dynproxy, RelayWitness(dynproxy.process)


def _write(registry: Registry, witness: Witness, which: int, home: int) -> float:
    """Seconds until the instance had moved."""
    moved = instance(which, home)
    started = time.monotonic()
    registry.put(moved)
    return witness.saw(address(*divmod(which, 250), home), 20) - started


def _processes(dynproxy: Dynproxy) -> tuple[int, ...]:
    return dynproxy.pid, *dynproxy.workers


def _spent(dynproxy: Dynproxy) -> list[float]:
    return [cpu_seconds(pid) for pid in _processes(dynproxy)]


def _share(dynproxy: Dynproxy, before: list[float], started: float) -> list[float]:
    """Per cent of a core that each process has used since."""
    seconds = time.monotonic() - started
    return [100 * (now - then) / seconds for now, then in zip(_spent(dynproxy), before, strict=True)]


WORKLOAD = Workload("table", tuple(PLANES), measure, rounds=1)
