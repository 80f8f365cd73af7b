"""Each parser on any bytes for a moment; `make fuzz` gives it hours."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.binary(max_size=600))
def test_no_bytes_break_a_parser(target: str, data: bytes) -> None:
    """It reads them or refuses them, and keeps its own promises about what it read."""
    TARGETS[target](data)
