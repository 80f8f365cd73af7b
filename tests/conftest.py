"""Fixtures for every test come from modules under tests/support."""

import logging

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.etcd_fixtures", "tests.support.docker_engine", "tests.support.fault_matrix"]

# How long an example takes on a busy machine says nothing about it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio's is about the test that runs: gRPC's poller outlives the loop of the one before."""
    return "PollerCompletionQueue" not in record.getMessage()


logging.getLogger("asyncio").addFilter(_is_ours)
