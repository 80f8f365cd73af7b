"""How many connections a proxy has room for, and why no more."""

from __future__ import annotations

import resource

import pytest

from ambnet.relay.limits import connection_cap
from ambnet.relay.protocol import InstanceStats, ServiceStats
from dynproxy.config import read
from dynproxy.plane import PlaneStats
from dynproxy.room import room

FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
FIT = connection_cap(None, FILES)
BUSY = ServiceStats(parked=2, instances={"one": InstanceStats(connections=3), "two": InstanceStats(connections=4)})


@pytest.mark.parametrize(
    ("options", "most", "why"),
    [
        ((), FIT, f"the limit of open files is {FILES}"),
        (("--workers", "2"), 2 * FIT, f"the limit of open files is {FILES}"),
        (("--max-connections", "9"), 9, "--max-connections is 9"),
        (("--max-connections", str(FIT + 1)), FIT, f"the limit of open files is {FILES}"),
    ],
)
def test_the_room_is_what_files_and_the_operator_leave(options: tuple[str, ...], most: int, why: str) -> None:
    stats = PlaneStats("relay", "", (), healthy=True, services={"a": BUSY, "b": ServiceStats()})
    found = room(read(["a", "1", *options], {}), stats)
    assert (found.connections, found.most, found.why) == (9, most, why)
