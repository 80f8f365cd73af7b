"""Fixtures for every test come from modules under tests/support."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.etcd_fixtures", "tests.support.docker_engine"]

# How long an example takes on a busy machine says nothing about it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
