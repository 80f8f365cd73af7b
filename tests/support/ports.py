"""Ports for servers that cannot bind port 0 themselves."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below the ephemeral range (32768 up), so that no outgoing connection takes the port before its server does.
LOW, HIGH = 20000, 32000
LANES = 2  # runs of tests beside one another, as scripts/test starts them: each takes every other port
LANE = int(os.environ.get("TEST_LANE", "0"))


_untried = itertools.cycle(range(LOW + LANE, HIGH, LANES))
for _ in range(random.randrange(HIGH - LOW)):  # runs begin elsewhere
    next(_untried)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on now, and that no one else in this run was given for as long as possible."""
    for port in itertools.islice(_untried, 200):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found")
