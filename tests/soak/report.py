"""What a soak came to, as build/soak.json and as a page of the manual, docs/soak.md."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench.machine import facts
from tests.soak.done import FAULTS
from tests.soak.levels import HOUR, MEMORY, SHORT
from tests.soak.run import Outcome
from tests.support.programs import ROOT

WRITTEN = ROOT / "build/soak.json"
LOGS = ROOT / "build/soak"
PAGE = ROOT / "docs/soak.md"
PARTS = ("docker", "etcd", "nft")  # what others made and we run on
LOADS = {
    "short": "TCP connections with one payload there and back, half-closed in between",
    "long": "TCP connections of 10 to 120 s with a request every half second",
    "bulk": "TCP connections with 1 MiB there and back",
    "udp": "UDP questions and answers",
}
HEAD = """# Soak

Written by `make soak`. Mixed load through real parts while a fault is injected every half minute, drawn from a shuffled
deck: three etcd members, two Docker Engines with eight instances, two registrars, two dynproxies on the kernel plane
behind a simple-amb each, two on the relay; each a host of its own, on one wire. Every byte that comes back is compared
with what was sent.

A fault explains the failure of what was open in its way at that moment, and of nothing that was begun afterwards; most
explain nothing. After each, etcd's records and every proxy's table must be what they should before the next, within 75
s. Number 1 of each program lives through the whole run, and its memory, files and tasks must stay level; number 2 is
killed and restarted by faults.
"""


def write(outcome: Outcome, *, page: bool) -> None:
    """The figures, and the page if it is asked for."""
    document = told(outcome)
    LOGS.mkdir(parents=True, exist_ok=True)
    for name, text in outcome.logs.items():
        (LOGS / f"{name.replace(' ', '-')}.log").write_text(text)
    WRITTEN.write_text(json.dumps(document, indent=1) + "\n")
    if page:
        PAGE.write_text("\n".join(markdown(document)) + "\n")


def told(outcome: Outcome) -> dict[str, Any]:
    """Everything, for JSON. Moments count from the run's beginning."""
    start = outcome.started
    return {
        "command": f"make soak HOURS={outcome.order.seconds / HOUR:g} SEED={outcome.order.seed}",
        "finished": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "seconds": round(outcome.seconds),
        "machine": {**facts(), "python": platform.python_version()},
        "problems": outcome.problems,
        "counts": outcome.counts,
        "faults": [
            {**asdict(event), "began": round(event.began - start, 3), "excuses": len(event.excuses)}
            for event in outcome.events
        ],
        "failures": [
            {**failure.told(), "begun": round(failure.begun - start, 3), "ended": round(failure.ended - start, 3)}
            for failure in outcome.failures
        ],
        "unexplained": len(outcome.unexplained),
        "processes": {
            name: {**asdict(found), "steady": name in outcome.steady} for name, found in outcome.courses.items()
        },
        "log_lines": {name: len(text.splitlines()) for name, text in outcome.logs.items()},
    }


def markdown(document: dict[str, Any]) -> Iterator[str]:
    """The page, line by line."""
    yield HEAD
    yield from _in_short(document)
    yield from _load(document["counts"])
    yield from _faults(document["faults"])
    yield from _processes(document)


def _in_short(document: dict[str, Any]) -> Iterator[str]:
    machine, failures = document["machine"], document["failures"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in PARTS)
    yield "## The last run\n"
    yield f"`{document['command']}`, finished {document['finished']} after {document['seconds']} s."
    size = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    yield f"{size}, Linux {machine['kernel']}, Python {machine['python']}; {versions}.\n"
    total = sum(_sums(document["counts"], " ok", " answers").values()) + len(failures)
    yield f"- Faults injected: {len(document['faults'])}."
    yield f"- Exchanges: {total:,}. Failed: {len(failures)}, of which no fault explains {document['unexplained']}."
    if document["problems"]:
        yield f"- **Not as it must be**, {len(document['problems'])} times:"
        yield from (f"    - {problem[:300]}" for problem in document["problems"][:20])
    else:
        yield "- Everything was as it must be."
    yield ""


def _sums(counts: dict[str, int], *endings: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, count in counts.items():
        if name.endswith(endings):
            found[name.split()[1]] += count
    return found


def _load(counts: dict[str, int]) -> Iterator[str]:
    done, failed, again = _sums(counts, " ok"), _sums(counts, " failed"), _sums(counts, " asked again")
    yield "## The load\n"
    yield "| load | went well | failed |\n|---|---:|---:|"
    for load, says in LOADS.items():
        yield f"| {says} | {done[load]:,} | {failed[load]:,} |"
    yield f"\nWithin the long connections {_sums(counts, ' answers')['long']:,} requests were answered."
    yield f"UDP questions were asked again, after a second without an answer, {again['udp']:,} times.\n"


def _faults(events: list[dict[str, Any]]) -> Iterator[str]:
    yield "## The faults\n"
    yield "`explains` are failures of what was open in its way; `slowest` is the longest that anybody waited, `right`"
    yield "how long after the fault's end the last table was what it should be, both in seconds and at most.\n"
    yield "| fault | what is done | times | explains | slowest | right |\n|---|---|---:|---:|---:|---:|"
    for name in sorted({event["name"] for event in events}):
        mine = [event for event in events if event["name"] == name]
        explained = sum(event["explained"] for event in mine)
        slowest, right = (max(event[key] for event in mine) for key in ("slowest", "right"))
        waited = f"{slowest:.1f}" if slowest else "≤ 1"
        yield f"| {name} | {_says(name)} | {len(mine)} | {explained} | {waited} | {right:.1f} |"
    yield ""


def _says(name: str) -> str:
    return (FAULTS[name].__doc__ or "").strip().splitlines()[0].rstrip(".")


def _processes(document: dict[str, Any]) -> Iterator[str]:
    yield "## The processes\n"
    yield "After the warm-up, in which each fault happens once. The slope is by least squares, with a level of its own"
    yield "for each life; files, threads and tasks are medians of the first and of the last third. The slope of a"
    yield f"process that lives through the run must be under {MEMORY / 1024:.0f} MiB an hour (of runs shorter than"
    yield f"{SHORT / 60:.0f} minutes it says nothing).\n"
    yield "| process | lives | memory, MiB: first, last, most | slope, MiB/h | files | threads | tasks | processor |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, found in document["processes"].items():
        memory = ", ".join(f"{found[key] / 1024:.1f}" for key in ("first", "last", "most"))
        levels = " | ".join(f"{found[key][0]:.0f}, {found[key][1]:.0f}" for key in ("files", "threads", "tasks"))
        kind = "" if found["steady"] else " (restarted)"
        slope = f"{found['slope'] / 1024:+.2f}"
        yield f"| {name}{kind} | {found['lives']} | {memory} | {slope} | {levels} | {found['cpu']:.1%} |"
    lines = sum(document["log_lines"].values())
    yield f"\nAll of them together logged {lines} lines."
