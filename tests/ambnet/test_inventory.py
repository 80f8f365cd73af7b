"""All containers of a daemon: what events say is looked at soon, and what they do not say within one resync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ambcore.containers import ContainerEvent
from ambnet import inventory
from ambnet.dockerd import Engine
from ambnet.inventory import Inventory
from tests.support.docker_engine import Docker
from tests.support.fake_docker import FakeDocker
from tests.support.waiting import eventually_async


class Picture:
    """An observer that keeps what it was told: `running` by name, and every call in order."""

    def __init__(self) -> None:
        self.running: dict[str, str] = {}
        self.calls: list[str] = []
        self.names: dict[str, str] = {}
        self.listings: list[Mapping[str, str]] = []

    def heard(self, event: ContainerEvent) -> None:
        self.calls.append(f"heard {event.action} {event.name}")

    def saw(self, container: str, inspected: Mapping[str, Any] | None) -> None:
        if inspected is None:
            name = self.names.pop(container, "?")
        else:
            name = self.names[container] = inspected["Name"][1:]
        self.calls.append(f"saw {name}{'' if inspected else ' gone'}")
        self.running = {key: value for key, value in self.running.items() if value != container}
        if inspected is not None and inspected["State"]["Running"]:
            self.running[name] = container

    def listed(self, containers: Mapping[str, str]) -> None:
        self.listings.append(containers)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path) as daemon:
        yield daemon


@contextlib.asynccontextmanager
async def watching(url: str, resync: float = 60.0) -> AsyncIterator[tuple[Inventory, Picture]]:
    picture = Picture()
    async with Engine(url, {}) as engine:
        found = Inventory(engine, picture, resync=resync)
        task = asyncio.create_task(found.run())
        try:
            yield found, picture
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], bool], seconds: float = 10.0) -> None:
    async def true() -> bool:
        return look()

    await eventually_async(true, seconds)


def names(first: int, last: int) -> set[str]:
    return {f"c{number}" for number in range(first, last)}


async def test_what_is_there_is_known_before_anything_happens(fake: FakeDocker) -> None:
    identity = fake.start("web", "8080:80/tcp")
    async with watching(fake.url) as (found, picture):
        await asyncio.wait_for(found.known.wait(), 10)
        assert picture.running == {"web": identity}
        assert picture.listings == [{identity: "web"}]


async def test_a_host_without_containers_is_known_to_have_none(fake: FakeDocker) -> None:
    async with watching(fake.url) as (found, picture):
        await asyncio.wait_for(found.known.wait(), 10)
        assert picture.listings == [{}]


async def test_an_event_is_told_at_once_and_its_container_looked_at(fake: FakeDocker) -> None:
    async with watching(fake.url) as (found, picture):
        await found.known.wait()
        fake.start("web")
        await until(lambda: "web" in picture.running)
        fake.remove("web")
        await until(lambda: "saw web gone" in picture.calls)
        assert picture.calls.index("heard start web") < picture.calls.index("saw web")
        assert not picture.running


async def test_a_burst_of_50_starts_and_50_stops_is_right_and_costs_few_looks(fake: FakeDocker) -> None:
    """Six events of one container are one look or two, not six."""
    for number in range(50):
        fake.start(f"c{number}")
    async with watching(fake.url) as (found, picture):
        await found.known.wait()
        assert set(picture.running) == names(0, 50)
        before = fake.requests["inspect"]
        for number in range(50):
            fake.start(f"c{50 + number}")
            fake.remove(f"c{number}")
        await until(lambda: set(picture.running) == names(50, 100), seconds=5)
        await until(lambda: not found._urgent and not found._looking)
        assert fake.requests["inspect"] - before <= 250


async def test_pain_2_with_every_event_lost_it_is_right_within_one_resync(fake: FakeDocker) -> None:
    for number in range(20):
        fake.start(f"c{number}")
    async with watching(fake.url, resync=1.0) as (found, picture):
        await found.known.wait()
        fake.deaf = True
        for number in range(10):
            fake.start(f"c{20 + number}")
            fake.remove(f"c{number}")
        listed = found.lists
        await until(lambda: set(picture.running) == names(10, 30))
        assert found.lists <= listed + 2  # a list may have been under way when they went


async def test_pain_3_a_stream_that_breaks_off_forgets_nothing_and_misses_nothing(fake: FakeDocker) -> None:
    fake.start("old")
    async with watching(fake.url) as (found, picture):
        await found.known.wait()
        fake.deaf = True
        fake.start("new")
        fake.remove("old")
        fake.deaf = False
        await asyncio.sleep(0)
        assert "old" in picture.running
        fake.cut()
        await until(lambda: set(picture.running) == {"new"})
        assert picture.calls.count("saw new") == 1


async def test_pain_4_what_starts_while_the_first_list_is_read_is_seen(fake: FakeDocker) -> None:
    for number in range(50):
        fake.start(f"c{number}")
    fake.slow = 0.01
    async with watching(fake.url) as (found, picture):
        await until(lambda: found.looks > 0)
        for number in range(50, 100):
            fake.start(f"c{number}")
        await until(lambda: set(picture.running) == names(0, 100))


async def test_what_was_heard_during_a_look_is_told_again_after_it(fake: FakeDocker) -> None:
    """The look's answer may be older than the event; and a next look settles it."""
    fake.start("web")
    async with watching(fake.url) as (found, picture):
        await found.known.wait()
        picture.calls.clear()
        fake.slow = 0.5
        fake.say("pause", "web")
        await until(lambda: "heard pause web" in picture.calls and bool(found._looking))
        fake.say("unpause", "web")
        await until(lambda: picture.calls.count("saw web") == 2)
        assert picture.calls == [
            "heard pause web",
            "heard unpause web",
            "saw web",
            "heard unpause web",
            "saw web",
        ]


async def test_no_container_is_looked_at_twice_at_once_and_never_more_than_a_few(fake: FakeDocker) -> None:
    for number in range(12):
        fake.start(f"c{number}")
    at_once: Counter[int] = Counter()
    async with watching(fake.url) as (found, picture):
        await found.known.wait()
        fake.slow = 0.05
        before = found.looks
        for _ in range(5):
            for number in range(12):
                fake.say("health_status: healthy", f"c{number}")
            at_once[len(found._looking)] += 1
            await asyncio.sleep(0.02)
        await until(lambda: not found._urgent and not found._looking)
        assert max(at_once) <= inventory.LOOKERS
        assert 12 <= found.looks - before <= 36
        assert len(picture.running) == 12


async def test_one_that_cannot_be_looked_at_is_said_once_and_holds_up_nobody(
    fake: FakeDocker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inventory, "LOOK_AGAIN", 0.1)
    caplog.set_level(logging.INFO, "docker")
    bad = fake.start("bad")
    fake.refusing.add("bad")
    for number in range(8):
        fake.start(f"c{number}")
    async with watching(fake.url) as (found, picture):
        await asyncio.wait_for(found.known.wait(), 10)
        assert set(picture.running) == names(0, 8)
        assert "in the way of itself" in found.blind[bad]
        asked = fake.requests["inspect"]
        await until(lambda: fake.requests["inspect"] >= asked + 3)
        fake.refusing.clear()
        await until(lambda: "bad" in picture.running)
        assert not found.blind
    assert [record.levelname for record in caplog.records if "docker tells" in record.message] == ["WARNING", "INFO"]


async def test_one_that_its_observer_cannot_take_is_said_once_and_holds_up_nobody(
    fake: FakeDocker, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of ours that one container's answer meets must not end what keeps the others."""
    bad = fake.start("bad")
    fake.start("good")
    fake.containers[bad]["State"].pop("Running")  # which Picture reads
    async with watching(fake.url, resync=0.2) as (found, picture):
        await asyncio.wait_for(found.known.wait(), 10)
        await until(lambda: found.lists > 3)
        assert set(picture.running) == {"good"}
        assert found.blind == {bad: "KeyError('Running')"}
        fake.containers[bad]["State"]["Running"] = True
        await until(lambda: set(picture.running) == {"good", "bad"})
        assert not found.blind
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert bad[:12] in line.message


async def test_a_look_can_be_asked_for_and_put_off(fake: FakeDocker) -> None:
    identity = fake.start("web")
    async with watching(fake.url) as (found, picture):
        await found.known.wait()
        found.look(identity, 30)
        found.look(identity, 0.05)
        await until(lambda: picture.calls.count("saw web") == 2)
        found.look(identity)
        await until(lambda: picture.calls.count("saw web") == 3)
        assert not found._timers


@pytest.mark.docker
async def test_a_real_daemon_is_followed(docker: Docker) -> None:
    before = await asyncio.to_thread(docker.run)
    async with watching(docker.url) as (found, picture):
        await asyncio.wait_for(found.known.wait(), 30)
        assert before in picture.running
        assert picture.listings[0][picture.running[before]] == before
        later = await asyncio.to_thread(docker.run)
        await until(lambda: later in picture.running)
        await asyncio.to_thread(docker, "rm", "-f", before)
        await until(lambda: before not in picture.running)
