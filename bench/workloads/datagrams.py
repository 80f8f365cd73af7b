"""UDP datagrams of 64 bytes, as fast as iperf3 sends them: how many a second arrive, and how many are lost on the way.

The sender never waits, so that on two cores it takes time from whoever forwards; what counts is what arrives.
"""

from __future__ import annotations

from bench.machine import settle
from bench.subjects import IPERF, SUBJECTS, Subject
from bench.visit import Effort, Figure, Meter, Steps, Workload, at_work
from bench.workloads.bulk import result


def measure(subject: Subject, effort: Effort) -> Steps:
    """Datagrams delivered a second, the share that was lost, and the machine's CPU per datagram delivered."""
    with at_work(subject, delicate=True) as (scene, running):
        settle()
        with Meter() as meter:
            text = scene.client.run(
                *("iperf3", "--client", running.address, "--port", str(IPERF), "--json", "--udp", "--length", "64"),
                *("--bitrate", "0", "--time", f"{effort.datagrams:.0f}"),
            )
        total = result(text)["sum"]
        arrived = total["packets"] - total["lost_packets"]
        yield Figure("udp", "rate", "datagrams/s", arrived / total["seconds"])
        yield Figure("udp", "lost", "%", total["lost_percent"])
        yield Figure("udp", "cpu", "µs/datagram", 1e6 * meter.busy / arrived)


WORKLOAD = Workload("udp", tuple(name for name, subject in SUBJECTS.items() if subject.udp), measure)
