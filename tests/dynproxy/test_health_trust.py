"""Instances that nobody vouches for: a container runs before the application in it listens."""

from __future__ import annotations

import pytest

from ambcore.health import State
from tests.dynproxy.test_health import INTERVAL, REFUSED, START, World, address, fleet


@pytest.fixture
def world() -> World:
    return World()


def test_one_that_is_not_trusted_is_unhealthy_until_its_first_check_which_is_at_once(world: World) -> None:
    (item,) = fleet(1)
    world.checks.watch("redis-A", (item,), trusted=False)
    assert world.checks.unhealthy("redis-A") == {item.id}
    world.live(1)
    assert world.asked == [(START, item.address)]
    assert world.checks.unhealthy("redis-A") == frozenset()
    assert world.told[-1][1:] == ("redis-A", set())


def test_one_that_refuses_at_first_is_asked_again_each_interval(world: World) -> None:
    (item,) = fleet(1)
    world.answers[item.address] = REFUSED
    world.checks.watch("redis-A", (item,), trusted=False)
    world.live(3 * INTERVAL + 0.5)
    assert len(world.asked) == 4
    assert world.checks.unhealthy("redis-A") == {item.id}
    del world.answers[item.address]
    world.live(INTERVAL)
    assert world.checks.unhealthy("redis-A") == frozenset()
    assert world.checks.state("redis-A").instances[item.id].state is State.UP


def test_the_same_again_keeps_what_it_has_proven_and_another_life_does_not(world: World) -> None:
    (item,) = fleet(1)
    world.checks.watch("redis-A", (item,), trusted=False)
    world.live(1)
    world.checks.watch("redis-A", (item,), trusted=False)
    assert world.checks.unhealthy("redis-A") == frozenset()
    world.checks.watch("redis-A", (), trusted=False)
    world.checks.watch("redis-A", (item,), trusted=False)
    assert world.checks.unhealthy("redis-A") == {item.id}


def test_without_checks_everybody_is_believed() -> None:
    world = World(interval=0)
    world.checks.watch("redis-A", fleet(2), trusted=False)
    assert world.checks.unhealthy("redis-A") == frozenset()
    assert world.times(address(0)) == []
