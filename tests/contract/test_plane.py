"""What every data plane promises, whichever carries the bytes: a new one is a line in `PLANES`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import pytest

from ambcore.admission import parse_networks
from ambcore.model import Address, Instance, Protocol, Readiness
from ambnet.relay.inherited import inherited, kept
from bench.load import Target, ask, burst
from dynproxy.config import Front, Settings, read
from dynproxy.plane import DataPlane
from dynproxy.planes import chosen_plane
from tests.support.hosts import Hosts
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.system, pytest.mark.netns]

SERVICE = "redis-A"


@dataclass(frozen=True)
class Stage:
    """Where a plane works: its settings, its clients' target, the servers' addresses, and the way to their host."""

    settings: Settings
    target: Target
    servers: tuple[str, str] = ("127.0.0.1", "127.0.0.1")
    there: Sequence[str] = ()


@contextlib.contextmanager
def loopback() -> Iterator[Stage]:
    """The relay, with everything on this machine's loopback."""
    port = free_port()
    where = ("--plane", "relay", "--listen", "127.0.0.1", "--instances-in", "127.0.0.0/8")
    yield Stage(read([SERVICE, str(port), "--park", "5", *where], {}), Target(port))


@contextlib.contextmanager
def three_hosts() -> Iterator[Stage]:
    """The kernel, with clients and servers on hosts of their own and the plane, this thread, between them."""
    with Hosts() as hosts, hosts.proxy.entered():

        def client() -> socket.socket:
            with hosts.client.entered():
                return socket.socket()

        settings = read([SERVICE, "80", "--park", "5", "--plane", "kernel", "--on-exit", "remove"], {})
        addresses = (hosts.instance(1), hosts.instance(2))
        yield Stage(settings, Target(80, hosts.proxy.ipv4, socket=client), addresses, hosts.server.prefix)


PLANES: dict[str, Callable[[], AbstractContextManager[Stage]]] = {"relay": loopback, "kernel": three_hosts}


class Subject:
    """A running plane with one front."""

    def __init__(self, plane: DataPlane, target: Target) -> None:
        self.plane = plane
        self.target = target

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection over which one answer has come."""
        reader, writer = await self.target.connect()
        writer.write(b"who\n")
        assert (await reader.readline()).endswith(b"\n")
        return reader, writer

    def carried(self) -> tuple[int, int]:
        """Connections and bytes of the service, whichever part of the plane took them."""
        stats = self.plane.stats()
        assert stats.healthy
        relay = stats.services[SERVICE].instances.values() if SERVICE in stats.services else ()
        kernel = stats.serves(SERVICE).traffic
        return (
            kernel.connections + sum(item.connections_total for item in relay),
            kernel.bytes + sum(item.bytes_in + item.bytes_out for item in relay),
        )


@pytest.fixture(params=PLANES)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    with PLANES[request.param]() as stage:
        yield stage


@pytest.fixture
async def subject(stage: Stage) -> AsyncIterator[Subject]:
    async with chosen_plane(stage.settings) as plane:
        yield Subject(plane, stage.target)


@pytest.fixture
async def servers(stage: Stage) -> AsyncIterator[list[NamedServer]]:
    a, b = (NamedServer(name, 0, host, stage.there) for name, host in zip("ab", stage.servers, strict=True))
    with a, b:
        yield [a, b]


def instance(server: NamedServer, readiness: Readiness = Readiness.UP, weight: int = 1) -> Instance:
    return Instance(SERVICE, server.name, Address(server.host, server.port), weight=weight, readiness=readiness)


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
    """Ten connections, ten lines of four bytes in and of two bytes out; a plane may count packets' headers, too."""
    await subject.plane.apply(SERVICE, (instance(servers[0]),))
    _, writer = await subject.open()
    assert (await burst(subject.target, 9)).failures == []

    async def counted() -> bool:
        connections, size = subject.carried()
        return connections == 10 and 60 <= size < 20_000

    await eventually_async(counted, 10)
    writer.close()


@pytest.mark.parametrize("served", [True, False])
async def test_clients_are_served_inside_the_networks_of_allow_and_reset_outside(
    stage: Stage, servers: list[NamedServer], served: bool
) -> None:
    networks = parse_networks("127.0.0.0/8,10.77.1.0/24" if served else "192.0.2.0/24")
    async with chosen_plane(replace(stage.settings, allow=networks)) as plane:
        await plane.apply(SERVICE, (instance(servers[0]),))
        outcome = await burst(stage.target, 5)
        assert outcome.answers == ({"a": 5} if served else {})

        async def counted() -> bool:
            return plane.stats().services[SERVICE].counters["not_allowed"] == (0 if served else 5)

        await eventually_async(counted, 10)


async def test_drain_accepts_nothing_new_and_waits_for_the_old(subject: Subject, servers: list[NamedServer]) -> None:
    await subject.plane.apply(SERVICE, (instance(servers[0]),))
    reader, writer = await subject.open()
    draining = asyncio.create_task(subject.plane.drain(10))

    await eventually_async(lambda: refused(subject.target), 5)
    writer.write(b"who\n")
    assert await reader.readline() == b"a\n"
    assert not draining.done()
    writer.close()
    await asyncio.wait_for(draining, 5)


async def test_a_front_opened_later_serves_and_one_closed_keeps_what_is_connected(
    subject: Subject, servers: list[NamedServer]
) -> None:
    """Its clients wait until its instances are applied. The front that was there from the start goes on."""
    a, b = servers
    await subject.plane.apply(SERVICE, (instance(a),))
    later = replace(subject.target, port=free_port())
    front = Front("later", later.port, Protocol.TCP)
    await subject.plane.open(front)
    await subject.plane.open(front)
    early = asyncio.create_task(ask(later))
    await asyncio.sleep(0.1)
    assert not early.done()
    await subject.plane.apply("later", (replace(instance(b), service="later"),))
    assert await asyncio.wait_for(early, 3) == "b"
    assert (await burst(later, 10)).answers == {"b": 10}
    assert await ask(subject.target) == "a"
    reader, writer = await later.connect()
    await subject.plane.close(front)
    await subject.plane.close(front)
    await eventually_async(lambda: refused(later), 5)
    writer.write(b"who\n")
    assert await asyncio.wait_for(reader.readline(), 3) == b"b\n"
    writer.close()
    assert await ask(subject.target) == "a"


async def test_one_that_waits_serves_when_it_takes_charge_and_the_one_before_it_ends_without_a_refusal(
    stage: Stage, subject: Subject, servers: list[NamedServer]
) -> None:
    """Both have the very same sockets, as after a hand-over; what the one before held open goes on."""
    a, b = servers
    await subject.plane.apply(SERVICE, (instance(a),))
    reader, writer = await subject.open()
    inherited().add([sock.dup() for sock in kept()])
    try:
        async with chosen_plane(stage.settings, waiting=True) as heir:
            await heir.apply(SERVICE, (instance(b),))
            assert (await burst(subject.target, 10)).answers == {"a": 10}
            await subject.plane.give_charge()
            assert (await burst(subject.target, 10)).answers == {"a": 10}
            await heir.take_charge()
            draining = asyncio.create_task(subject.plane.drain(10))
            outcome = await burst(subject.target, 100)
            assert outcome.failures == []

            async def another() -> bool:
                return await ask(subject.target) == "b"

            await eventually_async(another, 5)
            assert (await burst(subject.target, 10)).answers == {"b": 10}
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
            writer.close()
            await asyncio.wait_for(draining, 8)
    finally:
        inherited().shared = False


async def test_charge_that_is_given_and_not_taken_is_taken_back(subject: Subject, servers: list[NamedServer]) -> None:
    a, b = servers
    await subject.plane.apply(SERVICE, (instance(a),))
    await subject.plane.give_charge()
    await subject.plane.apply(SERVICE, (instance(b),))
    await subject.plane.take_charge()
    assert (await burst(subject.target, 10)).answers == {"b": 10}


async def refused(target: Target) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        _, accepted = await target.connect()
        accepted.close()
        return False
    return True


async def test_closing_twice_is_fine(subject: Subject) -> None:
    await subject.plane.aclose()
    await subject.plane.aclose()
