"""What the relay's tests start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.relay_peers import Instance, close_all
from tests.support.relay_worker import RelayWorker


@pytest.fixture(autouse=True)
def _sockets_closed() -> Iterator[None]:
    """No socket outlives its test."""
    yield
    close_all()


@pytest.fixture
def relay() -> Iterator[RelayWorker]:
    """A worker with short timeouts where a test would have to wait for them."""
    with RelayWorker(park=4.0, park_max=3, connect_timeout=0.5) as worker:
        yield worker


@pytest.fixture
def instance() -> Iterator[Instance]:
    """An instance the test accepts for."""
    with Instance() as one:
        yield one
