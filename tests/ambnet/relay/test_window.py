"""A peer that is there, and reads nothing at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from ambnet.relay.sockets import USER_TIMEOUT
from tests.support.relay_peers import Instance, talking, was_reset
from tests.support.relay_worker import RelayWorker, endpoint

CHUNK = b"x" * 65536


@pytest.mark.long
def test_C20_a_client_that_reads_nothing_is_given_up(figure: Callable[[str], None]) -> None:
    """Its window is closed and stays so: after 30 s with bytes on their way its instance is told."""
    with RelayWorker() as relay, Instance() as instance:
        relay.apply(endpoint("one", instance))
        client, server = talking(relay, instance)
        server.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                server.sendall(CHUNK)
        full = time.monotonic()
        assert was_reset(server, timeout=60)
        took = time.monotonic() - full
        figure(f"a client that reads nothing is given up after {took:.1f} s")
        assert USER_TIMEOUT / 1000 - 5 < took < USER_TIMEOUT / 1000 + 15
        client.close()
