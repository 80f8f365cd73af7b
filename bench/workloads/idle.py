"""10,000 connections that have answered one PING and then say nothing: the memory of whoever carries them.

Counted is what the carrying processes share with nobody; the kernel's own buffers are about the same for all. A process
needs two open files a connection, so where the limit of open files is lower and cannot be raised, there are as many
connections as fit; `connections` says how many there were.
"""

from __future__ import annotations

from bench.hosts import FILES, CannotRunError, python
from bench.machine import private_kib, resident_kib
from bench.subjects import BULK_ONLY, REDIS, SUBJECTS, Running, Subject
from bench.visit import Effort, Figure, Steps, Workload, at_work

SPARE = 500  # files for other things than connections


def measure(subject: Subject, effort: Effort) -> Steps:
    """Private memory per connection, and resident memory with all of them."""
    del effort
    count = min(subject.idle_connections, (FILES - 2 * SPARE) // 2)
    with at_work(subject) as (scene, running):
        before = private(running)
        hold = python("bench.clients.hold", running.address, str(REDIS), str(count))
        if (said := scene.client.listen(scene.client.start(*hold, talking=True))) != "held":
            raise CannotRunError(f"{count} connections cannot be held: {said}")
        yield Figure("idle", "connections", "connections", count)
        # A process that gave something back meanwhile has taken nothing for connections.
        yield Figure("idle", "memory", "KiB/connection", max(0, private(running) - before) / count)
        yield Figure("idle", "resident", "MiB", sum(map(resident_kib, running.carriers())) / 1024)


def private(running: Running) -> int:
    """KiB that the carriers share with nobody."""
    return sum(map(private_kib, running.carriers()))


WORKLOAD = Workload(
    "idle", tuple(name for name in SUBJECTS if name not in {"direct", "dnat", BULK_ONLY}), measure, rounds=3
)
