"""An instance of two fails under load, and nobody is told: what clients notice of it.

The fault begins half a second into the load and stays. It hits new connections only (a packet filter on the server
answers or swallows their SYNs), so that every error is the proxy's. Errors and slow connections are counted by
`bench.clients.connects`; that client is not fast enough to tell rates apart, so redis-benchmark measures the rate
afterwards, with the fault still there.

    two-alive           nothing fails: what the others are compared with
    refusing            one instance answers every SYN with a reset
    refusing-orphaned   the same, after dynproxy and its workers were killed with SIGKILL
    swallowing          one instance answers nothing; `noticed` says how long it still got connections
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.hosts import FRONT, Scene, python, scene, wait_for
from bench.machine import settle
from bench.registry import Registry, record
from bench.subjects import REDIS, Dynproxy, Subject
from bench.visit import Effort, Figure, Steps, Workload, pongs, serve
from bench.workloads.requests import benchmark

INSTANCES = {"one": "10.77.0.1", "two": "10.77.0.2"}
PLANES = {"kernel": "kernel", "relay-1": "relay"}
FAULTS = {"refusing": "reject with tcp reset", "swallowing": "drop"}
RULES = (
    "add table ip fault; add chain ip fault input {{ type filter hook input priority 0; }};"
    " add rule ip fault input ip daddr {} tcp flags & (syn|ack) == syn {}"
)
AT_ONCE = 50
STRANGERS = 1_000  # connections a second that begin beside a swallowing instance, whatever became of those before


def measure(subject: Subject, effort: Effort) -> Steps:
    """Errors, slow connections and the rate under each fault."""
    plane = PLANES[subject.name]
    if plane == "relay":  # slower, and here for comparison
        effort = replace(effort, connections=effort.connections // 3)
    yield from _closed_loop("two-alive", plane, effort, fault=None)
    yield from _closed_loop("refusing", plane, effort, fault="refusing")
    if plane == "kernel":
        yield from _closed_loop("refusing-orphaned", plane, effort, fault="refusing", orphaned=True)
    yield from _swallowing(plane, effort)


def _closed_loop(
    workload: str, plane: str, effort: Effort, *, fault: str | None, orphaned: bool = False
) -> Iterator[Figure]:
    with scene() as made:
        dynproxy = two_instances(made, plane)
        if orphaned:
            os.killpg(dynproxy.pid, signal.SIGKILL)
            wait_for(lambda: pongs(made, FRONT), 5, "the kernel serves without dynproxy")
        settle()
        outcome, _ = _load(made, effort.connections, AT_ONCE, fault=fault)
        yield from _noticed(workload, effort.connections, outcome)
        rate = benchmark(made, FRONT, ("-c", str(AT_ONCE), "-k", "0"), effort.connections)["rps"]
        yield Figure(workload, "rate", "connections/s", rate)


def _swallowing(plane: str, effort: Effort) -> Iterator[Figure]:
    count = effort.connections // 6  # ten seconds of strangers
    with scene() as made:
        two_instances(made, plane)
        settle()
        outcome, began = _load(made, count, count, STRANGERS, fault="swallowing")
        yield from _noticed("swallowing", count, outcome)
        yield Figure("swallowing", "noticed", "s", max([0.0, *(started - began for started in outcome["slow"])]))


def two_instances(made: Scene, plane: str) -> Dynproxy:
    """A dynproxy with two instances, both of which it has used."""
    serve(made)
    registry = Registry(made.proxy)
    for name, address in INSTANCES.items():
        registry.put(record("redis", name, address, REDIS))
    dynproxy = Dynproxy.start(made, plane, {"redis": REDIS})
    wait_for(lambda: all(pongs(made, FRONT) for _ in range(10)), 10, "both instances answer")
    return dynproxy


def _load(made: Scene, count: int, at_once: int, rate: int = 0, *, fault: str | None) -> tuple[dict[str, Any], float]:
    """What the clients saw, and when the fault began on the monotonic clock."""
    command = python("bench.clients.connects", FRONT, str(REDIS), str(count), str(at_once), str(rate))
    clients = made.client.start(*command, talking=True)
    made.client.listen(clients)
    time.sleep(0.5)  # the load's first half second is a healthy one
    began = time.monotonic()
    if fault:
        made.server.run("nft", RULES.format(INSTANCES["two"], FAULTS[fault]))
    outcome: dict[str, Any] = json.loads(made.client.listen(clients))
    return outcome, began


def _noticed(workload: str, count: int, outcome: dict[str, Any]) -> Iterator[Figure]:
    yield Figure(workload, "connections", "connections", count)
    yield Figure(workload, "errors", "connections", sum(outcome["errors"].values()))
    yield Figure(workload, "slow", "connections over 1 s", len(outcome["slow"]))
    yield Figure(workload, "worst", "s", outcome["worst"])


WORKLOAD = Workload("faults", tuple(PLANES), measure, rounds=3)
