"""The scheduler of health checks, with an imagined fleet and an imagined clock; at the end once with real sockets."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from ambcore.health import Result, Verdict
from ambcore.model import Address, Instance, Protocol, Readiness
from ambnet.daemon import cancel
from dynproxy.health import AT_ONCE, RATE, RATE_LARGE, URGENT_BURST, URGENT_RATE, HealthChecks
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

INTERVAL, TIMEOUT = 2.0, 0.4
ANSWER = 0.19  # seconds that a check takes in the imagined fleet, unless nobody answers
START = 1000.0

PASSED, REFUSED, SILENT, LOCAL = Verdict.PASSED, Verdict.REFUSED, Verdict.SILENT, Verdict.LOCAL


def address(number: int) -> Address:
    return Address(f"10.0.{number // 250}.{number % 250 + 1}", 6379)


def instance(number: int, service: str = "redis-A") -> Instance:
    return Instance(service, f"redis-{number}", address(number))


def fleet(size: int, service: str = "redis-A") -> tuple[Instance, ...]:
    return tuple(instance(number, service) for number in range(size))


class Ask:
    """A check that ends after a fixed time with what was true when it began."""

    def __init__(self, verdict: Verdict, now: float) -> None:
        self.verdict = verdict
        self.began = now
        self.next_look = now + (TIMEOUT if verdict is SILENT else ANSWER)
        self.closed = False

    def look(self, now: float) -> Result | None:
        assert now >= self.next_look
        return Result(self.verdict, now - self.began)

    def close(self) -> None:
        self.closed = True


class World:
    """A fleet that answers as `answers` says, a clock, and the checks that are to find out.

    `asked` are (time, address) of all checks begun, `told` (time, service, unhealthy ids) of all that was said.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self.now = START
        self.turns = 0
        self.answers: dict[Address, Verdict] = {}
        self.asks: list[Ask] = []
        self.asked: list[tuple[float, Address]] = []
        self.told: list[tuple[float, str, set[str]]] = []
        self.most_at_once = 0
        self.checks = HealthChecks(interval, TIMEOUT, self.tell, knock=self.knock)

    def knock(self, address: Address, timeout: float, now: float) -> Ask | Result:
        assert (timeout, now) == (TIMEOUT, self.now)
        self.asked.append((now, address))
        verdict = self.answers.get(address, PASSED)
        if verdict is LOCAL:
            return Result(LOCAL, 0.0, "Too many open files")
        self.asks = [ask for ask in self.asks if ask.next_look > now]
        ask = Ask(verdict, now)
        self.asks.append(ask)
        self.most_at_once = max(self.most_at_once, len(self.asks))
        return ask

    def tell(self, service: str, unhealthy: frozenset[str]) -> None:
        self.told.append((self.now, service, set(unhealthy)))

    def live(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            due = self.checks.turn(self.now)
            self.turns += 1
            if due > end:
                break
            self.now = max(self.now, due)
        self.now = end

    def times(self, which: Address) -> list[float]:
        return [when for when, address in self.asked if address == which]

    def forget(self) -> None:
        self.asked, self.told, self.turns = [], [], 0


@pytest.fixture
def world() -> World:
    return World()


def test_new_instance_is_checked_at_once_and_counts_as_up(world: World) -> None:
    world.checks.watch("redis-A", fleet(3))
    assert world.checks.unhealthy("redis-A") == frozenset()
    world.live(0)
    assert sorted(world.asked) == [(START, address(number)) for number in range(3)]


def test_instance_added_to_many_does_not_wait_for_its_turn(world: World) -> None:
    world.checks.watch("redis-A", fleet(1000))
    world.live(60)
    world.forget()
    world.checks.watch("redis-A", fleet(1001))
    world.live(0.2)
    assert world.times(address(1000))


@pytest.mark.parametrize("size", [1, 2, 7, 20, 50])
def test_each_is_checked_once_an_interval(world: World, size: int) -> None:
    world.checks.watch("redis-A", fleet(size))
    world.live(5)
    world.forget()
    world.live(20)
    for item in fleet(size):
        times = world.times(item.address)
        assert 9 <= len(times) <= 11
        assert all(1.85 <= later - earlier <= 2.15 for earlier, later in pairwise(times))


def test_checks_of_a_round_are_spread_over_the_interval(world: World) -> None:
    world.checks.watch("redis-A", fleet(20))
    world.live(5)
    world.forget()
    world.live(20)
    tenths = Counter(round((when - START) * 10) for when, _ in world.asked)
    assert max(tenths.values()) <= 2


def test_those_that_come_and_go_faster_than_a_round_leave_nothing_behind(world: World) -> None:
    everybody = fleet(2000)
    for start in range(0, 2000, 5):
        world.checks.watch("redis-A", everybody[start : start + 5])
        world.live(0.2)
    assert len(world.checks._round) + len(world.checks._new) <= 10
    world.checks.watch("redis-A", ())
    assert len(world.checks._round) + len(world.checks._new) == 0


def test_more_than_the_rate_allows_stretch_the_interval_and_the_state_says_so(world: World) -> None:
    world.checks.watch("redis-A", fleet(1000))
    world.live(30)
    world.forget()
    world.live(100)
    assert RATE * 98 <= len(world.asked) <= RATE * 102
    assert max(Counter(address for _, address in world.asked).values()) <= 3
    assert world.checks.state("redis-A").interval == 1000 / RATE


@pytest.mark.parametrize(("size", "turns"), [(1, 1), (50, 11), (10_000, 3)])
def test_idle_fleet_costs_few_turns_a_second(world: World, size: int, turns: int) -> None:
    """Waking up costs more than a check: many are begun and ended together."""
    world.checks.watch("redis-A", fleet(size))
    world.live(110)
    world.forget()
    world.live(20)
    assert world.turns <= 20 * turns + 2


@pytest.mark.parametrize("verdict", [REFUSED, SILENT, Verdict.CLOSED])
@pytest.mark.parametrize("size", [1, 2, 10, 50])
def test_instance_that_goes_dark_is_out_within_3_seconds_whenever_it_does(size: int, verdict: Verdict) -> None:
    for phase in range(20):
        world = World()
        world.checks.watch("redis-A", fleet(size))
        world.live(10 + phase / 9)
        dark_at, dark = world.now, instance(size // 2)
        world.answers[dark.address] = verdict
        world.live(3)
        assert [(service, ids) for _, service, ids in world.told] == [("redis-A", {dark.id})], phase
        assert world.told[0][0] - dark_at < 2.95


def test_one_failure_is_nothing_and_its_confirmation_follows_at_once(world: World) -> None:
    world.checks.watch("redis-A", fleet(1))
    world.live(3)
    world.forget()
    world.answers[address(0)] = SILENT
    world.live(1.2)  # its check is under way
    world.answers[address(0)] = PASSED
    world.live(3)
    assert world.told == []
    first, second = world.times(address(0))[:2]
    assert second - first == pytest.approx(TIMEOUT)


def test_the_down_are_looked_at_each_interval_and_one_success_brings_them_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "health")
    world.answers[address(1)] = REFUSED
    world.checks.watch("redis-A", fleet(2))
    world.live(10)
    times = world.times(address(1))
    assert [round(later - earlier, 2) for earlier, later in pairwise(times)] == [0.4, *[2.0] * 4]
    assert world.checks.unhealthy("redis-A") == {"redis-1"}
    world.answers[address(1)] = PASSED
    world.live(2.5)
    assert [ids for _, _, ids in world.told] == [{"redis-1"}, set()]
    assert caplog.messages == [
        "redis-A: redis-1 at 10.0.0.2:6379 does not answer (refused)",
        "redis-A: redis-1 at 10.0.0.2:6379 answers again",
    ]


def test_state_tells_what_is_known_of_each(world: World) -> None:
    world.answers[address(1)] = SILENT
    world.checks.watch("redis-A", fleet(2))
    world.live(1)
    state = world.checks.state("redis-A")
    well, ill = state.instances["redis-0"], state.instances["redis-1"]
    assert state.interval == INTERVAL
    assert (well.state.value, well.since, well.took, well.why) == ("up", None, ANSWER, "")
    assert (ill.state.value, ill.since, ill.took, ill.why) == ("down", START + 2 * TIMEOUT, TIMEOUT, "silent")


@pytest.mark.parametrize("turns_ago", [0, 5 * RATE])
def test_soon_asks_at_once_or_as_soon_as_the_check_under_way_has_ended(world: World, turns_ago: int) -> None:
    """Somebody saw an instance refuse whose turn in the round is far away; its last check may have just begun."""
    world.checks.watch("redis-A", fleet(1000))
    world.live(60)
    while world.checks.turn(world.now) and world.asked[-1][0] < world.now:
        world.live(0.1)
    began, one = world.now, world.asked[-1 - turns_ago][1]
    world.forget()
    world.answers[one] = REFUSED
    for _ in range(5):
        world.checks.soon(one)
    world.live(1)
    first = 0.0 if turns_ago else ANSWER
    assert world.times(one) == pytest.approx([began + first, began + first + TIMEOUT], abs=0.05)
    assert len(world.told) == 1


def test_soon_for_an_unknown_address_is_nothing(world: World) -> None:
    world.checks.soon(address(0))
    world.live(1)
    assert world.asked == []


def test_datagram_services_and_those_that_drain_are_not_checked(world: World) -> None:
    items = (replace(instance(0), protocol=Protocol.UDP), replace(instance(1), readiness=Readiness.DRAINING))
    world.checks.watch("redis-A", items)
    world.live(10)
    assert world.asked == []
    assert world.checks.state("redis-A").instances == {}


def test_two_services_at_one_address_share_its_check(world: World) -> None:
    world.checks.watch("redis-A", fleet(1))
    world.checks.watch("redis-B", fleet(1, "redis-B"))
    world.live(10)
    assert len(world.asked) <= 6
    world.answers[address(0)] = REFUSED
    world.live(3)
    assert [(service, ids) for _, service, ids in world.told] == [("redis-A", {"redis-0"}), ("redis-B", {"redis-0"})]
    world.forget()
    world.checks.watch("redis-A", ())
    world.live(2)
    assert [(service, ids) for _, service, ids in world.told] == [("redis-A", set())]
    assert world.checks.unhealthy("redis-B") == {"redis-0"}


def test_service_that_comes_to_a_dark_address_is_told_at_once(world: World) -> None:
    world.answers[address(0)] = REFUSED
    world.checks.watch("redis-A", fleet(1))
    world.live(2)
    world.forget()
    world.checks.watch("redis-B", fleet(1, "redis-B"))
    world.live(0)
    assert [(service, ids) for _, service, ids in world.told] == [("redis-B", {"redis-0"})]


def test_rewritten_record_of_a_dark_instance_leaves_it_dark(world: World) -> None:
    world.answers[address(0)] = REFUSED
    world.checks.watch("redis-A", fleet(2))
    world.live(2)
    world.forget()
    world.checks.watch("redis-A", (replace(instance(0), weight=5), instance(1)))
    world.live(5)
    assert world.told == []
    assert world.checks.unhealthy("redis-A") == {"redis-0"}


def test_removed_instance_is_forgotten_and_comes_back_as_new(world: World) -> None:
    world.answers[address(0)] = REFUSED
    world.checks.watch("redis-A", fleet(1))
    world.live(1.9)
    world.checks.watch("redis-A", ())
    world.live(10)
    assert [ids for _, _, ids in world.told] == [{"redis-0"}, set()]
    asked = len(world.asked)
    assert asked == 2
    world.answers[address(0)] = PASSED
    world.checks.watch("redis-A", fleet(1))
    world.live(1)
    assert len(world.asked) == asked + 1
    assert world.checks.state("redis-A").instances["redis-0"].why == ""


def test_instance_removed_while_it_is_asked_leaves_nothing(world: World) -> None:
    world.answers[address(0)] = SILENT
    world.checks.watch("redis-A", fleet(1))
    world.live(TIMEOUT / 2)
    world.checks.watch("redis-A", ())
    world.live(10)
    assert world.told == []
    assert world.checks.turn(world.now) == math.inf


def test_what_was_asked_of_an_earlier_life_says_nothing_of_the_next(world: World) -> None:
    world.answers[address(0)] = SILENT
    world.checks.watch("redis-A", fleet(1))
    world.live(TIMEOUT / 2)
    (asked,) = world.asks
    world.checks.watch("redis-A", ())
    world.answers[address(0)] = PASSED
    world.checks.watch("redis-A", fleet(1))
    world.live(TIMEOUT)
    assert asked.closed
    assert world.checks.results == {PASSED: 1}


def test_trouble_of_this_machine_ejects_nobody_and_is_said_once_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.checks.watch("redis-A", fleet(5))
    world.answers = dict.fromkeys((item.address for item in fleet(5)), LOCAL)
    world.live(70)
    assert world.told == []
    assert world.checks.results == {LOCAL: len(world.asked)}
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == "cannot check instances: Too many open files (1 checks so far)"


def test_dark_fleet_is_bounded_in_rate_and_number_and_leaves_the_round_alone(world: World) -> None:
    """However many do not answer, those that do are still looked at, and a new failure is still found."""
    world.checks.watch("redis-A", fleet(2000))
    dark = fleet(1000)
    world.answers = dict.fromkeys((item.address for item in dark), SILENT)
    world.live(100)
    assert world.checks.unhealthy("redis-A") == {item.id for item in dark}
    world.forget()
    world.live(40)
    asked = Counter(address in world.answers for _, address in world.asked)
    assert URGENT_RATE * 39 <= asked[True] <= URGENT_RATE * 40 + URGENT_BURST
    assert asked[False] >= 40 * RATE_LARGE / 2 - 2 * RATE_LARGE  # the dark ones' turns in the round pass unused
    assert world.most_at_once <= AT_ONCE
    victim = instance(1500)
    world.answers[victim.address] = REFUSED
    world.checks.soon(victim.address)
    world.live(1)
    assert victim.id in world.checks.unhealthy("redis-A")


def test_interval_of_zero_turns_checks_off() -> None:
    world = World(interval=0.0)
    world.checks.watch("redis-A", fleet(3))
    assert world.checks.turn(world.now) == math.inf
    assert world.asked == []
    assert world.checks.state("redis-A").interval is None


async def test_real_server_is_missed_when_it_ends_and_found_when_it_is_back() -> None:
    told: list[frozenset[str]] = []
    port = free_port()
    checks = HealthChecks(0.1, 1.0, lambda _, unhealthy: told.append(unhealthy))
    running = asyncio.create_task(checks.run())
    try:
        with socket.create_server(("127.0.0.1", port)):
            checks.watch("redis-A", (Instance("redis-A", "redis-1", Address("127.0.0.1", port)),))
            await eventually_async(lambda: _count(checks, Verdict.PASSED))
        await eventually_async(lambda: _true(told == [{"redis-1"}]))
        with socket.create_server(("127.0.0.1", port)):
            await eventually_async(lambda: _true(told == [{"redis-1"}, frozenset()]))
    finally:
        await cancel(running)


async def test_ending_closes_what_is_under_way() -> None:
    asks: list[Ask] = []

    def knock(_address: Address, _timeout: float, now: float) -> Ask:
        asks.append(Ask(SILENT, now + 60))
        return asks[-1]

    checks = HealthChecks(INTERVAL, TIMEOUT, lambda *_: None, knock=knock)
    running = asyncio.create_task(checks.run())
    checks.watch("redis-A", fleet(2))
    await eventually_async(lambda: _true(len(asks) == 2))
    await cancel(running)
    assert all(ask.closed for ask in asks)


async def _true(yes: bool) -> bool:
    return yes


async def _count(checks: HealthChecks, verdict: Verdict) -> int:
    return checks.results[verdict]
