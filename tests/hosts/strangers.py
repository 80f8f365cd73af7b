"""Runs on a host: PINGs at a steady rate to another one until its input ends. `python3 strangers.py ADDRESS PORT RATE`.

Says `begun`, and at the end a line of JSON: how many have `ended`, `errors` by reason, the seconds of the `worst`.
"""

from __future__ import annotations

import json
import select
import sys
import time

from bench.clients.connects import Clients

MOST = 2000  # under way at once: where the machine cannot keep up they come later, not all together


def main(address: str, port: str, rate: str) -> None:
    """Load until nobody wants it any more."""
    clients = Clients((address, int(port)))
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    started, begun = time.monotonic(), 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = int((time.monotonic() - started) * float(rate)) + 1
        for _ in range(min(due - begun, MOST - clients.under_way)):
            clients.begin()
            begun += 1
        clients.step(0.002)
    while clients.under_way:
        clients.step(0.1)
    seconds = time.monotonic() - started
    told = {"ended": clients.ended, "errors": clients.errors, "worst": clients.worst, "seconds": seconds}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
