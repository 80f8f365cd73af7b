"""`python -m bench.report`: docs/benchmarks.md and its chart, from the files in `bench/results/`.

`--quick` prints the report of the last quick or partial run instead and writes nothing. `render` is pure; a test holds
the document to the results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.chart import chart, number
from bench.hosts import ROOT
from bench.results import RESULTS, read
from bench.rounds import Row
from bench.subjects import SUBJECTS
from bench.targets import TARGETS

DOCUMENT, CHART = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.svg"
QUICK = ROOT / ".work" / "bench"
TITLES: Mapping[str, str] = {
    "get-50": "redis GET over 50 connections",
    "get-1": "redis GET over one connection",
    "get-pipelined": "redis GET, 50 connections, 16 requests at a time",
    "connections": "A new connection for each GET, 50 at once",
    "bulk-1": "Bulk, one stream, client to server",
    "bulk-8": "Bulk, eight streams",
    "udp": "UDP, datagrams of 64 bytes, as fast as the sender can",
    "idle": "Idle connections",
    "two-alive": "Two instances, both alive, a connection for each request",
    "refusing": "One of the two refuses, and nobody is told",
    "refusing-orphaned": "One of the two refuses, dynproxy was killed before (SIGKILL)",
    "swallowing": "One of the two swallows SYNs, and nobody is told; 1,000 new connections a second",
    "table-1": "One instance: from a write to etcd to the applied change",
    "table-10": "10 instances",
    "table-100": "100 instances",
    "table-1000": "1,000 instances",
    "table-10000": "10,000 instances",
    "services-100": "100 services in one process",
}
HEAD = """# Benchmarks

Written by `make bench`; the figures are those of `bench/results/latest.json`, `raw-*.jsonl` beside it has every round.
Run it yourself: `make bench ROUNDS=5` takes half an hour (9 rounds are the default), `make bench-quick` two minutes.

"""
METHOD = """
## What was measured, and how

Client, proxy and server have a network namespace each, joined by two veth pairs; nothing leaves the machine. "direct"
is the client routed through the proxy's namespace to the server: the same two pairs, no proxy, no connection tracking.
"dnat" is the least with which nftables can forward a port, and so the most that forwarding in the kernel by connection
tracking can reach of it. All share the machine's cores, as the scheduler sees fit. Load comes from `redis-benchmark`,
`iperf3` and, where errors and slow connections are counted, from `bench/clients/connects.py`; a real etcd runs beside
dynproxy.

The subjects take turns within a round, and in the next the other way (A B C, C B A): whom one follows matters a
little. Each is started anew in every round, in fresh namespaces, on a machine at rest. Requests and bulk are measured
with all subjects side by side, in pieces of 0.4 and of 1 s, a piece of each in turn: a machine is not as fast in one
minute as in the next. A figure is the median over the rounds, with the least and the greatest. A ratio is the median
of the quotients of each round, so it may differ a little from the quotient of the medians. "of HAProxy" compares with
HAProxy on one thread, for the subjects with two workers with HAProxy on two. CPU is that of the whole machine:
client, server, kernel and all. What takes long and varies little (tables, 100 services, memory) has fewer rounds, and
so have the subjects that no aim speaks of.

The peers come from Debian and are set up to be fast; their configurations are in `bench/peers/`, the command lines in
`bench/subjects.py`.

| subject | is |
|---|---|
"""


def render(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    """The document."""
    return "".join(
        (
            HEAD,
            "".join(_machine(machine)),
            "\n![The headline figures as bars, one panel each](benchmarks.svg)\n",
            "".join(_targets(rows)),
            "".join(_losses(rows)),
            METHOD,
            *(f"| {subject.name} | {subject.text} |\n" for subject in SUBJECTS.values()),
            "\n## All figures\n",
            *_tables(rows),
            *_missing(machine),
        )
    )


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    kind = "a short run, too short to quote" if machine["quick"] else "a full run"
    yield f"{machine['date'][:10]}, {kind}: {machine['rounds']} round(s) in {machine['seconds'] // 60} minutes on "
    yield f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}; "
    yield f"Python {machine['python']}, {versions}.\n\nBefore {machine['restless']} of {machine['visits']} visits the "
    yield "machine was not at rest: the more of them, the less the figures mean.\n"


def _targets(rows: Sequence[Row]) -> Iterator[str]:
    by_key = {(row.workload, row.subject, row.metric): row for row in rows}
    yield "\n## What we aim at, and what we reach\n\n| figure | aim | reached | |\n|---|---|---|---|\n"
    for target in TARGETS:
        value = target.reached(by_key)
        aim = f"{'≥' if target.at_least else '≤'} {number(target.bound)} {target.unit}".rstrip()
        if value is None:
            yield f"| {target.text} | {aim} | not measured | |\n"
        else:
            verdict = "yes" if target.holds(value) else "**no**"
            yield f"| {target.text} | {aim} | {f'{number(value)} {target.unit}'.rstrip()} | {verdict} |\n"


def _losses(rows: Sequence[Row]) -> Iterator[str]:
    """Every comparison that HAProxy wins by more than the rounds' usual disagreement."""
    ours = [row for row in rows if row.subject.startswith(("kernel", "relay")) and row.ratio_haproxy is not None]
    lost = [row for row in ours if _worse(row)]
    yield "\n## Where HAProxy is better, by more than 3 %\n\n"
    if not lost:
        yield "Nowhere.\n" if ours else "Not compared.\n"
    for row in lost:
        yield f"- {row.subject}, {TITLES[row.workload]}: {row.metric} {row.ratio_haproxy:.2f} of HAProxy's\n"


def _worse(row: Row) -> bool:
    ratio = row.ratio_haproxy or 1.0
    return ratio < 0.97 if more_is_better(row.metric) else ratio > 1.03


def more_is_better(metric: str) -> bool:
    """Whether a greater value of this metric is a better one."""
    return metric in {"rate", "throughput"}


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for workload in (name for name in TITLES if any(row.workload == name for row in rows)):
        metrics = list(dict.fromkeys((row.metric, row.unit) for row in rows if row.workload == workload))
        compared = {row.metric for row in rows if row.workload == workload and row.ratio_haproxy is not None}
        heads = [f"{metric}, {unit}" + (" | of direct | of HAProxy" * (metric in compared)) for metric, unit in metrics]
        columns = len(metrics) + 2 * len(compared)
        yield f"\n### {TITLES[workload]}\n\n| | {' | '.join(heads)} |\n|---|{'---:|' * columns}\n"
        for subject in SUBJECTS:
            found = {row.metric: row for row in rows if (row.workload, row.subject) == (workload, subject)}
            if found:
                cells = [_cell(found.get(metric), ratios=metric in compared) for metric, _ in metrics]
                yield f"| {subject} | {' | '.join(cells)} |\n"


def _cell(row: Row | None, *, ratios: bool) -> str:
    if row is None:
        return " | ".join([""] * (3 if ratios else 1))
    spread = "" if row.min == row.max else f" ({number(row.min)} to {number(row.max)})"
    quotients = [_ratio(row.ratio_direct), _ratio(row.ratio_haproxy)] if ratios else []
    return " | ".join([f"{number(row.median)}{spread}", *quotients])


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _missing(machine: Mapping[str, Any]) -> Iterator[str]:
    if machine["missing"]:
        yield "\n## What could not be measured\n\n"
        yield from (
            f"- {item['subject']}, {item['workload']}, {item['times']} time(s): {item['why']}\n"
            for item in machine["missing"]
        )


if __name__ == "__main__":
    if "--quick" in sys.argv[1:]:
        sys.stdout.write(render(*read(QUICK)))
    else:
        found, where = read(RESULTS)
        DOCUMENT.write_text(render(found, where))
        CHART.write_text(chart(found, list(SUBJECTS)))
