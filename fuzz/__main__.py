"""A campaign: each target is run, guided by coverage, until it has had its share of processor time.

    python -m fuzz --seconds 1800 [TARGET…]

What earlier runs took counts: build/fuzz/TARGET.json holds the sums, .work/fuzz/TARGET the inputs found so far, and
both are gone on with. A line for each target says what it came to. What breaks a target is left in .work/fuzz/broken
and makes the exit code 1; the others are run all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fuzz.targets import TARGETS

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "fuzz/corpus"
WORK = ROOT / ".work/fuzz"
SUMS = ROOT / "build/fuzz"
SLICE = 300  # seconds of a run: what a campaign that is ended loses at most
LONGEST = 4096  # bytes of an input
PATIENCE = 20  # seconds for one input, after which it counts as a defect
MEMORY = 1024  # MiB, likewise

EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
PROGRESS = re.compile(r"\bcov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True, slots=True)
class Sums:
    """What a target has had so far: processor time in seconds, and what libFuzzer counts."""

    executions: int = 0
    seconds: float = 0.0
    coverage: int = 0  # edges of code reached
    features: int = 0  # those, and how often
    inputs: int = 0  # that are kept, as each reaches something new
    broken: int = 0

    def line(self, target: str) -> str:
        """For people."""
        return (
            f"{target:<10} {self.executions:>11,} executions  {self.seconds / 60:6.1f} CPU minutes  "
            f"{self.coverage:>5} edges  {self.features:>6} features  {self.inputs:>5} inputs  {self.broken} broken"
        )


def read(target: str) -> Sums:
    """The sums of earlier runs; none if there were none."""
    path = SUMS / f"{target}.json"
    return Sums(**json.loads(path.read_text())) if path.exists() else Sums()


def write(target: str, sums: Sums) -> None:
    """Keep them, whole or not at all."""
    SUMS.mkdir(parents=True, exist_ok=True)
    fresh = SUMS / f"{target}.json.new"
    fresh.write_text(json.dumps(asdict(sums)) + "\n")
    fresh.replace(SUMS / f"{target}.json")


def run(target: str, seconds: float, sums: Sums) -> Sums:
    """One run of so many seconds at most, added to the sums."""
    kept, broken = WORK / target, WORK / "broken"
    for folder in (kept, broken, CORPUS / target):
        folder.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": max(1, round(seconds)),
        "max_len": LONGEST,
        "timeout": PATIENCE,
        "rss_limit_mb": MEMORY,
        "artifact_prefix": f"{broken}/{target}-",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "fuzz.guided", target, str(kept), str(CORPUS / target)]
    command += [f"-{name}={value}" for name, value in options.items()]
    log = WORK / f"{target}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace")
    coverage, features, inputs = max(
        ((int(a), int(b), int(c)) for a, b, c in PROGRESS.findall(said)), default=(0, 0, 0)
    )
    executed = EXECUTED.search(said)
    if process.returncode:
        sys.stderr.write("".join(said.splitlines(keepends=True)[-40:]))
    return replace(
        sums,
        executions=sums.executions + (int(executed[1]) if executed else 0),
        seconds=round(sums.seconds + usage.ru_utime + usage.ru_stime, 1),
        coverage=max(sums.coverage, coverage),
        features=max(sums.features, features),
        inputs=inputs or sums.inputs,
        broken=sums.broken + bool(process.returncode),
    )


def main() -> int:
    """0 if nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz our parsers, guided by coverage.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="of processor time for each, earlier runs' included")
    parser.add_argument("--report", action="store_true", help="only say what the runs so far came to")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    failed = False
    for target in given.targets or TARGETS:
        sums = read(target)
        while not given.report and sums.seconds < given.seconds:
            before, sums = sums, run(target, min(SLICE, given.seconds - sums.seconds), sums)
            write(target, sums)
            if sums.broken > before.broken or sums.seconds - before.seconds < 0.5:
                failed = True
                break
        sys.stdout.write(sums.line(target) + "\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
