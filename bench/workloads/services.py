"""100 services in one process: the rate through one of them, and what the process costs while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.hosts import FRONT, SERVER, Scene, scene, wait_for
from bench.machine import cpu_seconds, resident_kib, settle
from bench.registry import Registry, record
from bench.subjects import PEERS, REDIS, Dynproxy, Subject, haproxy_environment, program
from bench.visit import Effort, Figure, Meter, Steps, Workload, pongs, serve
from bench.workloads.requests import benchmark

SERVICES: Mapping[str, int] = {f"s{number:02}": 7000 + number for number in range(100)}
ASKED = SERVICES["s50"]
OPTIONS = ("-c", "50")


@dataclass(frozen=True)
class Hundred:
    """All processes of one that serves the hundred, its control process among them."""

    processes: Callable[[], tuple[int, ...]]


def dynproxy(plane: str) -> Callable[[Scene], Hundred]:
    """dynproxy with one instance of each service."""

    def start(made: Scene) -> Hundred:
        registry = Registry(made.proxy)
        for name in SERVICES:
            registry.put(record(name, "one", SERVER, REDIS))
        started = Dynproxy.start(made, plane, SERVICES, seconds=60)
        return Hundred(lambda: (started.pid, *started.workers))

    return start


def haproxy(made: Scene) -> Hundred:
    """HAProxy with the pinned settings, and a section for each service in the place of its own two."""
    settings = (PEERS / "haproxy.cfg").read_text().partition("\nlisten ")[0]
    listens = (
        f"listen {name}\n    bind {FRONT}:{port}\n    server one {SERVER}:{REDIS}\n" for name, port in SERVICES.items()
    )
    path = made.folder / "hundred.cfg"
    path.write_text("\n".join((settings, *listens)))
    process = made.proxy.start(program("haproxy"), "-db", "-f", str(path), env=haproxy_environment(1))
    return Hundred(lambda: (process.pid,))


STARTS: Mapping[str, Callable[[Scene], Hundred]] = {
    "kernel": dynproxy("kernel"),
    "relay-1": dynproxy("relay"),
    "haproxy-1": haproxy,
}


def measure(subject: Subject, effort: Effort) -> Steps:
    """GET rate through the fiftieth, memory and idle CPU of all processes together."""
    with scene() as made:
        serve(made)
        hundred = STARTS[subject.name](made)
        wait_for(lambda: all(pongs(made, FRONT, port) for port in SERVICES.values()), 30, "100 services answer")
        settle()
        spent, started = _spent(hundred), time.monotonic()
        time.sleep(effort.idle / 2)
        idle = 100 * (_spent(hundred) - spent) / (time.monotonic() - started)
        yield Figure("services-100", "cpu idle", "% of a core", idle)
        yield Figure("services-100", "resident", "MiB", sum(map(resident_kib, hundred.processes())) / 1024)
        count = int(benchmark(made, FRONT, OPTIONS, 5_000, ASKED)["rps"] * effort.requests.total)
        with Meter() as meter:
            rate = benchmark(made, FRONT, OPTIONS, count, ASKED)["rps"]
        yield Figure("services-100", "rate", "requests/s", rate)
        yield Figure("services-100", "cpu", "µs/request", 1e6 * meter.busy / count)


def _spent(hundred: Hundred) -> float:
    return sum(map(cpu_seconds, hundred.processes()))


WORKLOAD = Workload("services", tuple(STARTS), measure, rounds=1)
