"""What is measured, one file a kind of load; `WORKLOADS` is the list."""

from __future__ import annotations

from collections.abc import Mapping

from bench.visit import Workload
from bench.workloads import bulk, datagrams, faults, idle, requests, services, table

_ALL = (
    *(requests.WORKLOAD, bulk.WORKLOAD, datagrams.WORKLOAD, idle.WORKLOAD),
    *(faults.WORKLOAD, table.WORKLOAD, services.WORKLOAD),
)
WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in _ALL}
