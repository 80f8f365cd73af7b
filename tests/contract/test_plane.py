"""What every data plane promises, whichever carries the bytes: a new one is a line in `PLANES`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from ambcore.model import Address, Instance, Readiness
from bench.load import Target, ask, burst
from dynproxy.config import Settings, read
from dynproxy.plane import DataPlane
from dynproxy.relay_plane import relay_plane
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.system

PLANES: dict[str, Callable[[Settings], AbstractAsyncContextManager[DataPlane]]] = {"relay": relay_plane}
SERVICE = "redis-A"


class Subject:
    """A running plane with one front."""

    def __init__(self, plane: DataPlane, port: int) -> None:
        self.plane = plane
        self.target = Target(port)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection over which one answer has come."""
        reader, writer = await asyncio.open_connection(self.target.host, self.target.port)
        writer.write(b"who\n")
        assert (await reader.readline()).endswith(b"\n")
        return reader, writer


@pytest.fixture(params=PLANES)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    port = free_port()
    settings = read([SERVICE, str(port), "--listen", "127.0.0.1", "--instances-in", "127.0.0.0/8", "--park", "5"], {})
    async with PLANES[request.param](settings) as plane:
        yield Subject(plane, port)


@pytest.fixture
def servers() -> Iterator[list[NamedServer]]:
    with NamedServer("a") as a, NamedServer("b") as b:
        yield [a, b]


def instance(server: NamedServer, readiness: Readiness = Readiness.UP, weight: int = 1) -> Instance:
    return Instance(SERVICE, server.name, Address("127.0.0.1", server.port), weight=weight, readiness=readiness)


async def test_every_connection_after_apply_sees_what_was_applied(subject: Subject, servers: list[NamedServer]) -> None:
    for server in servers * 5:
        await subject.plane.apply(SERVICE, (instance(server),))
        assert await ask(subject.target) == server.name


async def test_unknown_and_none_both_wait_for_an_instance(subject: Subject, servers: list[NamedServer]) -> None:
    """A client that comes before the first list, and one that finds nobody, are served by the first instance."""
    early = asyncio.create_task(ask(subject.target))
    await asyncio.sleep(0.1)
    await subject.plane.apply(SERVICE, ())
    late = asyncio.create_task(ask(subject.target))
    await asyncio.sleep(0.1)
    assert not early.done()
    assert not late.done()
    await subject.plane.apply(SERVICE, (instance(servers[0]),))
    assert set(await asyncio.wait_for(asyncio.gather(early, late), 2)) == {"a"}


async def test_round_robin_alternates_and_honours_weights(subject: Subject, servers: list[NamedServer]) -> None:
    a, b = servers
    await subject.plane.apply(SERVICE, (instance(a), instance(b)))
    first = [await ask(subject.target) for _ in range(4)]
    assert sorted(first[:2]) == ["a", "b"]
    assert first[:2] == first[2:]
    await subject.plane.apply(SERVICE, (instance(a, weight=3), instance(b)))
    assert (await burst(subject.target, 40, at_once=1)).answers == {"a": 30, "b": 10}


async def test_draining_instance_gets_nothing_new_and_keeps_the_old(
    subject: Subject, servers: list[NamedServer]
) -> None:
    a, b = servers
    await subject.plane.apply(SERVICE, (instance(a),))
    reader, writer = await subject.open()
    await subject.plane.apply(SERVICE, (instance(a, Readiness.DRAINING), instance(b)))
    assert (await burst(subject.target, 10)).answers == {"b": 10}
    writer.write(b"who\n")
    assert await reader.readline() == b"a\n"
    writer.close()


async def test_refusing_instance_is_not_noticed_by_clients(subject: Subject, servers: list[NamedServer]) -> None:
    a, b = servers
    a.kill()
    await subject.plane.apply(SERVICE, (instance(a), instance(b)))
    outcome = await burst(subject.target, 50)
    assert outcome.failures == []
    assert outcome.answers == {"b": 50}


async def test_unhealthy_instance_is_asked_only_when_nobody_else_is_left(
    subject: Subject, servers: list[NamedServer]
) -> None:
    a, b = servers
    await subject.plane.apply(SERVICE, (instance(a), instance(b)), frozenset({"a"}))
    assert (await burst(subject.target, 20)).answers == {"b": 20}
    await subject.plane.apply(SERVICE, (instance(a),), frozenset({"a"}))
    assert (await burst(subject.target, 20)).answers == {"a": 20}
    await subject.plane.apply(SERVICE, (instance(a), instance(b)))
    assert (await burst(subject.target, 20)).answers == {"a": 10, "b": 10}


async def test_stats_count_what_was_carried(subject: Subject, servers: list[NamedServer]) -> None:
    await subject.plane.apply(SERVICE, (instance(servers[0]),))
    _, writer = await subject.open()
    assert (await burst(subject.target, 9)).failures == []

    async def counted() -> bool:
        stats = subject.plane.stats()
        assert stats.healthy
        assert SERVICE in stats.services
        assert "a" in stats.services[SERVICE].instances
        item = stats.services[SERVICE].instances["a"]
        assert (item.connections, item.connections_total) == (1, 10)
        assert (item.bytes_in, item.bytes_out) == (40, 20)
        return True

    await eventually_async(counted, 5)
    writer.close()


async def test_drain_accepts_nothing_new_and_waits_for_the_old(subject: Subject, servers: list[NamedServer]) -> None:
    await subject.plane.apply(SERVICE, (instance(servers[0]),))
    reader, writer = await subject.open()
    draining = asyncio.create_task(subject.plane.drain(10))

    async def refused() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            _, accepted = await asyncio.open_connection(subject.target.host, subject.target.port)
            accepted.close()
            return False
        return True

    await eventually_async(refused, 5)
    writer.write(b"who\n")
    assert await reader.readline() == b"a\n"
    assert not draining.done()
    writer.close()
    await asyncio.wait_for(draining, 5)


async def test_closing_twice_is_fine(subject: Subject) -> None:
    await subject.plane.aclose()
    await subject.plane.aclose()
