"""Runs on a host: a steady load of PINGs on a local port until standard input ends. `python3 client.py PORT RATE`.

Prints how many connections were served, a line now and then, and at the end one line of JSON: `served`, and of each
failure when its connection was begun (this machine's monotonic clock, which all hosts of one kernel share) and why.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.load import Target, steady_load

REPORT = 0.1  # seconds


async def main(port: int, rate: float) -> None:
    """Load until nobody wants it any more."""
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with steady_load(Target(port, line=b"PING\r\n"), rate) as outcome:
        while not ended.done():
            await asyncio.wait({ended}, timeout=REPORT)
            sys.stdout.write(f"{outcome.answers['+PONG']}\n")
            sys.stdout.flush()
    failures = [(failure.started, failure.why) for failure in outcome.failures]
    sys.stdout.write(json.dumps({"served": outcome.answers["+PONG"], "failures": failures}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
