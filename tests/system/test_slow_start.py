"""Slow start through a whole dynproxy, on both planes: which share an instance gets that has just come."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.waiting import eventually
from tests.system.kernel_hosts import Redis, Stage

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

BOTH = pytest.mark.parametrize("plane", ["kernel", "relay"])
CLIENTS = 200


def got(stage: Stage, server: Redis) -> int:
    """How many of so many new connections a server gets."""
    return Counter(stage.ask() for _ in range(CLIENTS))[server.host]


def is_half(count: int) -> bool:
    return abs(count - CLIENTS / 2) < CLIENTS / 20


@BOTH
def test_an_instance_that_comes_gets_a_tenth_of_its_share_at_first(stage: Stage, plane: str) -> None:
    """One in eleven, 18 of 200; who was there when the proxy started has its half."""
    one, two, three = stage.servers
    with stage.serving(one, two, plane=plane, options=("--slow-start", "300")) as proxy:
        assert is_half(got(stage, two))
        stage.put(three)
        proxy.wait_serving(stage.service, one.host, two.host, three.host, plane=plane)
        assert proxy.instance(stage.service, three.host)["share"] == 0.1
        assert 0.8 * CLIENTS / 21 < got(stage, three) < 1.25 * CLIENTS / 21


def test_an_instance_that_comes_back_starts_anew_and_grows(stage: Stage) -> None:
    one, two, _ = stage.servers
    with stage.serving(one, two, options=("--slow-start", "6", "--check-interval", "0.5")) as proxy:

        def state() -> tuple[str, float]:
            shown = proxy.instance(stage.service, two.host)
            return shown["state"], shown["share"]

        two.kill()
        eventually(lambda: state()[0] == "ejected")
        two.start()
        eventually(lambda: state()[0] == "up" and state()[1] < 1, what="it is starting")
        eventually(lambda: state() == ("up", 1.0), 20)
        assert is_half(got(stage, two))
