"""`python -m bench`: measure every subject under every workload, in interleaved rounds, and keep what was measured.

ROUNDS (9) rounds; in each, each workload visits each subject in turn. A full run writes `bench/results/latest.json`,
`machine.json` and the raw figures of every round; a quick or partial one writes the same files to `.work/bench/`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from bench.hosts import ROOT
from bench.results import Record, write
from bench.run import run
from bench.subjects import SUBJECTS
from bench.visit import FULL, QUICK
from bench.workloads import WORKLOADS


def names(known: list[str]) -> type[argparse.Action]:
    """An argparse action for a comma-separated list of known names."""

    class Names(argparse.Action):
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: object,
            option_string: str | None = None,
        ) -> None:
            chosen = str(values).split(",")
            if unknown := [name for name in chosen if name not in known]:
                parser.error(f"{option_string}: {', '.join(unknown)} unknown; there are {', '.join(known)}")
            setattr(namespace, self.dest, chosen)

    return Names


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round of the workloads that matter daily")
    parser.add_argument("--only", action=names(list(WORKLOADS)), default=None, metavar="WORKLOAD,…")
    parser.add_argument("--subjects", action=names(list(SUBJECTS)), default=None, metavar="SUBJECT,…")
    parser.add_argument("--rounds", type=int, default=None, help="default: ROUNDS, else 9; 1 with --quick")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results")
    asked = parser.parse_args()
    if os.geteuid():
        parser.error("network namespaces need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # namespaces must not stay behind
    full = not (asked.quick or asked.only or asked.subjects)
    workloads = [
        WORKLOADS[name] for name in asked.only or [n for n, w in WORKLOADS.items() if w.quick or not asked.quick]
    ]
    subjects = [SUBJECTS[name] for name in asked.subjects or SUBJECTS]
    rounds = asked.rounds or (1 if asked.quick else int(os.environ.get("ROUNDS", "9")))
    folder = asked.out or ROOT / ("bench/results" if full else ".work/bench")
    started = time.monotonic()
    record = Record()
    run(workloads, subjects, QUICK if asked.quick else FULL, rounds, record)
    write(record, folder, rounds=rounds, seconds=time.monotonic() - started, quick=asked.quick)
    sys.stderr.write(f"{folder}/latest.json after {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
