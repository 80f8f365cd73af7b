"""Active health checks: which instances do not answer, found out by connecting to each every few seconds.

Instances that are well are looked at in rounds, evenly spread over the interval and at most RATE a second; more of
them make the round longer. Whoever gives reason to look (new, suspect, down, named by `soon`) does not wait for the
round and has a budget of its own. So a large fleet costs no more than a middling one, and no trouble delays the round.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ambcore.agenda import Agenda, Pace
from ambcore.health import NEW, UNPROVEN, Health, Result, State, Verdict, learn, next_check
from ambcore.holders import Holders
from ambcore.model import Address, Instance
from ambcore.model import Protocol as Transport
from ambnet.saying import Ration
from ambnet.tcpcheck import knock

log = logging.getLogger("health")
told = Ration(log)  # how many instances there are is not for us to say

RATE, RATE_LARGE, LARGE = 25, 10, 1000  # checks a second of the round; of a fleet that is large, beyond so many
URGENT_RATE, URGENT_BURST = 100, 25  # checks a second outside the round: suspects first, then new ones, then the down
AT_ONCE, URGENT_AT_ONCE = 96, 80  # checks under way: a burst, and both rates for the half second of a dark instance

# Waking up costs more than a check, 100 us against 60 on a virtual machine with cold caches. So the round goes in
# beats: 20 to a round, but one a second at least.
BEATS, LONGEST_BEAT = 20, 1.0
GATHER = 0.1  # seconds for which those outside the round gather while they are too many; a burst covers it
LAZY = 0.02  # seconds that anything else waits for a beat, to share its turn

SAY_AGAIN = 60.0  # seconds between two complaints about this machine

Unhealthy = frozenset[str]


class Probe(Protocol):
    """A check under way, as `ambnet.tcpcheck` makes it."""

    began: float
    next_look: float

    def look(self, now: float) -> Result | None:
        """The result, or None while there is none yet."""

    def close(self) -> None:
        """End it without a result."""


Knock = Callable[[Address, float, float], Probe | Result]  # (address, timeout, now)


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What checks say of a service: `interval` is the seconds between two of a well instance, as it is now; None: off.

    `instances` holds by id those that are checked. `since` is in seconds of the event loop's clock.
    """

    interval: float | None
    instances: Mapping[str, Health]


class HealthChecks:
    """Checks the instances it is told to `watch`, while `run` runs, and calls `changed` whenever a set changes.

    `changed(service, ids of the unhealthy)` is called in the event loop and must not take long. An interval of 0 turns
    all of it off. An instance that goes dark is found within interval * (1 + 1 / BEATS) + 2 * timeout, as long as
    there are no more than interval * RATE. `results` counts verdicts.
    """

    def __init__(
        self,
        interval: float,
        timeout: float,
        changed: Callable[[str, Unhealthy], None],
        *,
        knock: Knock = knock,
    ) -> None:
        self._interval = interval
        self._timeout = timeout
        self._changed = changed
        self._knock = knock
        self.results: Counter[Verdict] = Counter()
        self._holders = Holders(_is_checked)
        self._health: dict[Address, Health] = {}
        self._unhealthy: dict[str, Unhealthy] = {}
        self._told: dict[str, Unhealthy] = {}
        self._round: OrderedDict[Address, None] = OrderedDict()  # those whose turn is still to come in it
        self._last = self._beat = -math.inf  # when the round's last check was due, and when its last beat was
        self._new: OrderedDict[Address, None] = OrderedDict()
        self._suspects: Agenda[Address] = Agenda()
        self._down: Agenda[Address] = Agenda()
        self._pace = Pace(URGENT_RATE, URGENT_BURST)
        self._under_way: dict[Address, Probe] = {}
        self._complain_at = 0.0
        self._alarm: asyncio.Future[None] | None = None
        self._learnt = asyncio.Event()

    def watch(self, service: str, instances: tuple[Instance, ...], *, trusted: bool = True) -> None:
        """Make these the instances of a service, whole state each time. A new one is checked at once.

        Unless they are `trusted`, a new one is unhealthy until it has passed its first check.
        """
        if not self._interval:
            return
        move = self._holders.replace(service, instances)
        for address in move.new:
            if trusted:
                self._health[address] = NEW
                self._new[address] = None
            else:
                self._health[address] = UNPROVEN
                self._down.put(address, -math.inf)
            self._round[address] = None
        for address in move.gone:
            del self._health[address]
            self._round.pop(address, None)
            self._new.pop(address, None)
            self._suspects.drop(address)
            self._down.drop(address)
            if (probe := self._under_way.pop(address, None)) is not None:
                probe.close()
        left = self.unhealthy(service) - {item.id for item in move.departed}
        self._set_unhealthy(service, left | {item.id for item in move.arrived if self._health[item.address].down})
        self._wake()

    def soon(self, address: Address) -> None:
        """Check an address at once: somebody saw it refuse. Those that are not well already are looked at anyway."""
        health = self._health.get(address)
        if health is not None and health.state is State.UP and address not in self._suspects:
            self._suspects.put(address, 0.0)
            self._wake()

    async def first_looks(self) -> None:
        """Until it is known of each instance whether it answers; at once where nothing is checked."""
        while any(item.state is State.SUSPECT or item.took is None for item in self._health.values()):
            self._learnt.clear()
            await self._learnt.wait()

    def unhealthy(self, service: str) -> Unhealthy:
        """The ids of the service's instances that do not answer."""
        return self._unhealthy.get(service, frozenset())

    def state(self, service: str) -> ServiceHealth:
        """All that is known of a service."""
        checked = (item for item in self._holders.of(service) if _is_checked(item))
        return ServiceHealth(self._stretched() or None, {item.id: self._health[item.address] for item in checked})

    async def run(self) -> None:
        """Check until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                wake_at = self.turn(loop.time())
                self._alarm = loop.create_future()
                timer = loop.call_at(wake_at, self._wake) if wake_at < math.inf else None
                await self._alarm
                if timer is not None:
                    timer.cancel()
        finally:
            for probe in self._under_way.values():
                probe.close()
            self._under_way.clear()

    def turn(self, now: float) -> float:
        """Do what is due; returns when the next turn is, infinity for none."""
        for address, probe in tuple(self._under_way.items()):
            if probe.next_look <= now and (result := probe.look(now)):
                del self._under_way[address]
                self._learn(address, result, probe.began, now)
        self._begin_urgent(now)
        self._begin_round(now)
        self._tell()
        return self._next_turn()

    def _begin_urgent(self, now: float) -> None:
        while len(self._under_way) < URGENT_AT_ONCE and self._pace.ready() <= now:
            address = self._pop_suspect(now) or self._pop_new() or self._down.pop(now)
            if address is None:
                break
            self._pace.take(now)
            self._begin(address, now)

    def _begin_round(self, now: float) -> None:
        if now < self._round_due():
            return
        spacing = self._stretched() / len(self._holders)
        if self._last < now - spacing - 2 * self._beat_length():  # a little lateness is made good, more is not
            self._last = now - spacing
        self._beat = now
        while self._last + spacing <= now and len(self._under_way) < AT_ONCE:
            address = self._next_of_round()
            if self._is_idle_and_well(address):
                self._begin(address, now)
            self._last += spacing

    def _next_of_round(self) -> Address:
        """The next address in turn, of a new round if need be; there has to be one."""
        if not self._round:
            self._round = OrderedDict.fromkeys(self._holders)
        return self._round.popitem(last=False)[0]

    def _pop_suspect(self, now: float) -> Address | None:
        """The suspect due the longest. One whose check is under way is asked again after it: that began too early."""
        while (address := self._suspects.pop(now)) in self._under_way:
            self._suspects.put(address, self._under_way[address].next_look)
        return address

    def _pop_new(self) -> Address | None:
        """The next that was never checked, if its turn in the round has not come first."""
        while self._new:
            address, _ = self._new.popitem(last=False)
            if self._health.get(address) is NEW and self._is_idle_and_well(address):
                return address
        return None

    def _is_idle_and_well(self, address: Address) -> bool:
        """Whether no check of an address is under way or noted."""
        health = self._health.get(address)
        return (
            health is not None
            and health.state is State.UP
            and address not in self._under_way
            and address not in self._suspects
        )

    def _begin(self, address: Address, now: float) -> None:
        found = self._knock(address, self._timeout, now)
        if isinstance(found, Result):
            self._learn(address, found, now, now)
        else:
            self._under_way[address] = found

    def _learn(self, address: Address, result: Result, began: float, now: float) -> None:
        """Take up a result and note the next check."""
        self.results[result.verdict] += 1
        self._learnt.set()
        if result.verdict is Verdict.LOCAL and now >= self._complain_at:
            self._complain_at = now + SAY_AGAIN
            log.warning("cannot check instances: %s (%d checks so far)", result.why, self.results[Verdict.LOCAL])
        before = self._health.get(address)
        if before is None:
            return  # it was removed meanwhile
        health = self._health[address] = learn(before, result, now)
        due = next_check(health, result.verdict, began, interval=self._interval, timeout=self._timeout)
        if due is not None:
            (self._down if health.down else self._suspects).put(address, due)
        if health.down is not before.down:
            self._flip(address, health, first=before.since is None)

    def _flip(self, address: Address, health: Health, *, first: bool) -> None:
        for item in self._holders.at(address):
            unhealthy = self.unhealthy(item.service)
            if health.down:
                told.say(
                    logging.WARNING, "%s: %s at %s does not answer (%s)", item.service, item.id, address, health.why
                )
                self._set_unhealthy(item.service, unhealthy | {item.id})
            else:
                again = "" if first else " again"
                told.say(logging.INFO, "%s: %s at %s answers%s", item.service, item.id, address, again)
                self._set_unhealthy(item.service, unhealthy - {item.id})

    def _set_unhealthy(self, service: str, unhealthy: Unhealthy) -> None:
        if unhealthy:
            self._unhealthy[service] = unhealthy
        else:
            self._unhealthy.pop(service, None)

    def _tell(self) -> None:
        """Say what changed since it was last said."""
        if self._told == self._unhealthy:
            return
        told, self._told = self._told, dict(self._unhealthy)
        for service in sorted(told.keys() | self._told.keys()):
            if (unhealthy := self.unhealthy(service)) != told.get(service, frozenset()):
                self._changed(service, unhealthy)

    def _stretched(self) -> float:
        """The interval that RATE allows, in seconds."""
        count = len(self._holders)
        return max(self._interval, count / (RATE if count <= LARGE else RATE_LARGE))

    def _beat_length(self) -> float:
        return min(LONGEST_BEAT, self._stretched() / BEATS)

    def _round_due(self) -> float:
        """When the round's next check may begin, infinity if there is nobody to check."""
        if not self._holders:
            return math.inf
        return max(self._last + self._stretched() / len(self._holders), self._beat + self._beat_length())

    def _next_turn(self) -> float:
        looks = (probe.next_look for probe in self._under_way.values())
        due = min(looks, default=math.inf)
        if len(self._under_way) < URGENT_AT_ONCE:
            urgent = -math.inf if self._new else min(self._suspects.next_due(), self._down.next_due())
            due = min(due, max(urgent, self._pace.ready() + GATHER))
        if len(self._under_way) < AT_ONCE:
            beat = self._round_due()
            due = beat if beat <= due + LAZY else due
        return due

    def _wake(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)


def _is_checked(item: Instance) -> bool:
    """A datagram service need not answer, and one that drains gets no client anyway."""
    return item.protocol is Transport.TCP and item.takes_new
