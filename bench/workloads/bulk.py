"""iperf3 through each subject, client to server: one stream, and eight at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.hosts import CannotRunError
from bench.machine import settle
from bench.subjects import IPERF, SUBJECTS, Subject
from bench.visit import Effort, Figure, Meter, Workload, at_work

STREAMS = {"bulk-1": 1, "bulk-8": 8}


def measure(subject: Subject, effort: Effort) -> Iterator[Figure]:
    """What arrived, and the machine's CPU per gigabyte."""
    with at_work(subject, delicate=True) as (scene, running):
        for workload, streams in STREAMS.items():
            settle()
            with Meter() as meter:
                text = scene.client.run(
                    *("iperf3", "--client", running.address, "--port", str(IPERF), "--json"),
                    *("--time", f"{effort.bulk:.0f}", "--omit", "0.2", "--parallel", str(streams)),
                )
            received = result(text)["sum_received"]
            yield Figure(workload, "throughput", "Gbit/s", received["bits_per_second"] / 1e9)
            yield Figure(workload, "cpu", "ms/GB", 1e3 * meter.busy / (received["bytes"] / 1e9))


def result(text: str) -> dict[str, Any]:
    """The "end" section of iperf3's JSON. Raises CannotRunError with iperf3's complaint."""
    document = json.loads(text)
    if "error" in document:
        raise CannotRunError(f"iperf3: {document['error']}")
    end: dict[str, Any] = document["end"]
    return end


WORKLOAD = Workload("bulk", tuple(SUBJECTS), measure, quick=True)
