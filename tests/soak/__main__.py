"""`python -m tests.soak --hours 1 [--seed N] [--report]`; as root. What came of it is in build/soak.json.

With --report it is docs/soak.md as well. Ends with 1 if anything was not as it must be. Ctrl-C and SIGTERM clean up.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.soak import report
from tests.soak.run import Order, StopAskedError, say, soak


def main() -> int:
    """One soak by the command line."""
    parser = argparse.ArgumentParser(
        prog="soak", description="mixed load, a random fault every 30 s, nothing unexplained"
    )
    parser.add_argument("--hours", type=float, default=1.0, help="how long (1)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 100_000, help="of the sequence of faults (the clock's)"
    )
    parser.add_argument("--faults", default="", help="only these, comma separated")
    parser.add_argument("--pairs", type=int, choices=(1, 2), default=2, help="of proxies: with 1 none is steady")
    parser.add_argument("--report", action="store_true", help="write docs/soak.md")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    order = Order(given.hours * 3600, given.seed, tuple(filter(None, given.faults.split(","))), given.pairs)
    say(f"seed {order.seed}, {order.seconds:.0f} s")
    try:
        with tempfile.TemporaryDirectory(prefix="amb-soak-") as folder:
            outcome = soak(order, Path(folder))
    except StopAskedError:
        say("stopped before it began; everything is cleaned up")
        return 130
    report.write(outcome, page=given.report)
    for problem in outcome.problems:
        say(f"PROBLEM {problem}")
    failed, left = len(outcome.failures), len(outcome.unexplained)
    say(
        f"{len(outcome.events)} faults in {outcome.seconds:.0f} s: {failed} failed, {left} of them unexplained; "
        f"see {report.WRITTEN}"
    )
    return 1 if outcome.problems else 0


def _stop(number: int, _: FrameType | None) -> None:
    raise StopAskedError(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
