"""What a proxy announces not to reach is what its checks find, and stays word for word while it is so."""

from __future__ import annotations

import asyncio
import re
import time

from ambcore.health import Result, Verdict
from ambcore.model import Address, Instance
from dynproxy.health import HealthChecks
from dynproxy.unreachable import Unreachables

ONE, OTHER = (Instance(name, "one", Address(f"10.0.0.{number}", 80)) for number, name in enumerate(("web", "pg"), 1))
TIMEOUT = 0.4


async def test_what_is_down_is_told_with_its_first_reason_and_its_moment_until_it_answers() -> None:
    answers = {ONE.address: Result(Verdict.REFUSED), OTHER.address: Result(Verdict.SILENT, error="No route to host")}
    health = HealthChecks(2.0, TIMEOUT, lambda *_: None, knock=lambda address, *_: answers[address])
    health.watch("web", (ONE,))
    health.watch("pg", (OTHER,))
    told = Unreachables(lambda: ["web"], health)  # pg is none of etcd's services
    began = now = asyncio.get_running_loop().time()
    assert told() == []
    for _ in range(3):
        health.turn(now)
        now += 2 * TIMEOUT
    (first,) = told()
    assert (first.service, first.instance, first.why) == ("web", "one", "refused")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.since)
    assert first.since[:4] == time.strftime("%Y", time.gmtime())
    answers[ONE.address] = Result(Verdict.SILENT)
    while now < began + 20:
        health.turn(now)
        now += 1.0
        assert told() == [first]
    answers[ONE.address] = Result(Verdict.PASSED, 0.001)
    for _ in range(5):
        health.turn(now)
        now += 1.0
    assert told() == []


async def test_a_service_that_is_not_checked_is_not_told_of() -> None:
    health = HealthChecks(0.0, TIMEOUT, lambda *_: None)
    health.watch("web", (ONE,))
    assert Unreachables(lambda: ["web", "nothing"], health)() == []
