"""Dialling until somebody answers, with servers of this test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from ambcore.errors import RegistryUnavailableError
from ambcore.health import Result, Verdict
from ambcore.model import Address, Instance
from ambnet.daemon import background
from ambnet.dial import dial
from registrar import answers, doors
from registrar.answers import Verify
from registrar.doors import FIRST_AT_ONCE, Doors
from tests.support.waiting import eventually_async


@pytest.fixture(autouse=True)
def _sooner(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(answers, "PATIENCE", 0.5)
    monkeypatch.setattr(answers, "SELDOM", 0.1)
    monkeypatch.setattr(doors, "LEISURE", 0.0)
    caplog.set_level(logging.INFO, "registrar")


class Scene:
    """Doors, and what they tell."""

    def __init__(self, verify: Verify, stands: bool | None = False) -> None:
        self.changes = 0
        self.stands = stands
        self.doors = Doors(verify, self._changed, self._stands)

    def _changed(self) -> None:
        self.changes += 1

    async def _stands(self, _: Instance) -> bool:
        if self.stands is None:
            raise RegistryUnavailableError("etcd is away")
        return self.stands

    @contextlib.asynccontextmanager
    async def open(self, *instances: Instance, told: Instance | None = None) -> AsyncIterator[Doors]:
        async with background(self.doors.run):
            self.doors.watch(instances, {} if told is None else {(told.service, told.id): told})
            yield self.doors


def instance(port: int, name: str = "one") -> Instance:
    return Instance("web", name, Address("127.0.0.1", port))


@pytest.fixture
def port() -> int:
    """One on which nobody listens, and which nobody else is given meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found: int = sock.getsockname()[1]
    return found


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "registrar"]


async def test_nobody_answers_is_one_line_and_the_answer_another(port: int, caplog: pytest.LogCaptureFixture) -> None:
    one = instance(port)
    async with Scene(Verify.WARN).open(one) as watched:
        assert watched.held_back(one, None) is None

        async def said() -> bool:
            return len(lines(caplog)) == 1

        await eventually_async(said)
        assert lines(caplog)[0].startswith(f"nobody has answered registrar at 127.0.0.1:{port}, web/one, for ")
        assert "(refused); it is published all the same: see whether" in lines(caplog)[0]
        (door,) = watched.unanswered()
        assert (door.instance, door.why) == (one, "refused")
        tries = door.tries

        async def asked_again() -> bool:
            return watched.unanswered()[0].tries > tries

        await eventually_async(asked_again)
        with socket.create_server(("127.0.0.1", port)):

            async def answered() -> bool:
                return not watched.unanswered()

            await eventually_async(answered)
        assert lines(caplog)[1].startswith(f"web/one answers at 127.0.0.1:{port}, after ")
        assert len(lines(caplog)) == 2


async def test_who_waits_is_let_through_by_the_first_answer(port: int, caplog: pytest.LogCaptureFixture) -> None:
    one, scene = instance(port), Scene(Verify.WAIT)
    async with scene.open(one) as watched:

        async def in_vain() -> bool:
            return bool(watched.unanswered())

        await eventually_async(in_vain)
        assert watched.held_back(one, None) is not None
        assert scene.changes == 0
        with socket.create_server(("127.0.0.1", port)):

            async def through() -> bool:
                return watched.held_back(one, None) is None

            await eventually_async(through)
        assert scene.changes == 1
        assert len(lines(caplog)) in {0, 2}  # a slow machine may have complained


async def test_what_an_earlier_life_published_is_let_through_unanswered_as_soon_as_etcd_tells(port: int) -> None:
    one, scene = instance(port), Scene(Verify.WAIT, stands=None)
    async with scene.open(one) as watched:

        async def in_vain() -> bool:
            return bool(watched.unanswered())

        await eventually_async(in_vain)
        assert watched.held_back(one, None) is not None
        scene.stands = True

        async def through() -> bool:
            return watched.held_back(one, None) is None

        await eventually_async(through)
        assert watched.unanswered()


async def test_another_address_and_one_that_comes_back_are_dialled_anew(port: int) -> None:
    one, scene = instance(port), Scene(Verify.WAIT)
    with socket.create_server(("127.0.0.1", port)):
        async with scene.open(one) as watched:

            async def through() -> bool:
                return watched.held_back(one, None) is None

            await eventually_async(through)
            moved = instance(port - 1 if port > 1 else 2)
            assert watched.held_back(moved, one) is not None
            watched.watch([moved], {})
            assert watched.held_back(moved, None) is not None
            watched.watch([], {})
            watched.watch([one], {})
            assert watched.held_back(one, None) is not None
            await eventually_async(through)
            watched.watch([], {})
            assert watched.unanswered() == ()


async def test_without_verification_nobody_is_dialled_and_nobody_waits(port: int) -> None:
    one = instance(port)
    with socket.create_server(("127.0.0.1", port)) as server:
        server.setblocking(False)
        async with Scene(Verify.NO).open(one) as watched:
            assert watched.held_back(one, None) is None
            await asyncio.sleep(0.3)  # the rule is that nothing happens
            with pytest.raises(BlockingIOError):
                server.accept()


async def test_the_silent_delay_nobody_who_has_just_started(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: first dials have room of their own."""
    seen, released = set[Address](), asyncio.Event()
    hanging = 0

    async def slow(address: Address, timeout: float) -> Result:  # noqa: ASYNC109 - as `dial` has it
        nonlocal hanging
        if address.port >= 1000:
            return await dial(address, timeout)
        if address in seen:
            hanging += 1
            await released.wait()
        seen.add(address)
        return Result(Verdict.SILENT)

    monkeypatch.setattr(doors, "dial", slow)
    crowd = [instance(number + 1, f"silent-{number}") for number in range(3 * FIRST_AT_ONCE)]
    async with Scene(Verify.WAIT).open(*crowd) as watched:

        async def stuck() -> bool:
            return hanging >= doors.AGAIN_AT_ONCE

        await eventually_async(stuck)
        new = instance(port)
        with socket.create_server(("127.0.0.1", port)):
            watched.watch([*crowd, new], {})

            async def through() -> bool:
                return watched.held_back(new, None) is None

            await eventually_async(through)
        assert hanging == doors.AGAIN_AT_ONCE
        released.set()


async def test_of_very_many_that_do_not_answer_the_first_are_said_and_then_that_there_are_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(_: Address, timeout: float) -> Result:  # noqa: ASYNC109 - as `dial` has it
        await asyncio.sleep(0)
        return Result(Verdict.REFUSED)

    monkeypatch.setattr(doors, "dial", refused)
    crowd = [instance(number + 1, f"n{number}") for number in range(50)]
    async with Scene(Verify.WARN).open(*crowd) as watched:

        async def all_said() -> bool:
            return all(door.said for door in watched.unanswered()) and len(watched.unanswered()) == len(crowd)

        await eventually_async(all_said)
        said = lines(caplog)
        assert len(said) == doors.MOST_SAID + 1
        assert said[-1] == "more than 20 instances do not answer registrar: /status.json lists them"
