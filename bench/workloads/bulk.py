"""iperf3 through each subject, client to server: one stream, and eight at once."""

from __future__ import annotations

import json
from typing import Any

from bench.hosts import CannotRunError
from bench.subjects import IPERF, SUBJECTS, Subject
from bench.visit import Effort, Figure, Meter, Steps, Workload, at_work

STREAMS = {"bulk-1": 1, "bulk-8": 8}


def measure(subject: Subject, effort: Effort) -> Steps:
    """What arrived, and the machine's CPU per gigabyte."""
    with at_work(subject, delicate=True) as (scene, running):
        for workload, streams in STREAMS.items():
            gigabytes = seconds = 0.0
            meter = Meter()
            for _ in range(effort.bulk.count):
                yield None
                with meter:
                    text = scene.client.run(
                        *("iperf3", "--client", running.address, "--port", str(IPERF), "--json"),
                        *("--time", f"{effort.bulk.seconds:.0f}", "--omit", "0.2", "--parallel", str(streams)),
                    )
                received = result(text)["sum_received"]
                gigabytes += received["bytes"] / 1e9
                seconds += 8 * received["bytes"] / received["bits_per_second"]
            yield Figure(workload, "throughput", "Gbit/s", 8 * gigabytes / seconds)
            yield Figure(workload, "cpu", "ms/GB", 1e3 * meter.busy / gigabytes)


def result(text: str) -> dict[str, Any]:
    """The "end" section of iperf3's JSON. Raises CannotRunError with iperf3's complaint."""
    document = json.loads(text)
    if "error" in document:
        raise CannotRunError(f"iperf3: {document['error']}")
    end: dict[str, Any] = document["end"]
    return end


WORKLOAD = Workload("bulk", tuple(SUBJECTS), measure, in_turns=True, quick=True)
