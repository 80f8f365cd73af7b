"""Datagrams through the relay plane: fronts that come and go, several workers, and one of them that dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from ambcore.model import Address, Instance, Protocol
from dynproxy.config import Front, read
from dynproxy.relay_plane import RelayPlane, relay_plane
from tests.support.ports import free_port
from tests.support.udp_peers import Answerer, ask, ask_until, clients, udp_client, udp_socket
from tests.support.waiting import eventually_async

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def running(workers: int, *options: str) -> AsyncIterator[tuple[RelayPlane, int]]:
    port = free_port()
    settings = read(["dns", str(port), "--listen", HOST, "--workers", str(workers), *options], {})
    async with relay_plane(settings) as plane:
        yield plane, port


def instance(server: Answerer, service: str = "dns") -> Instance:
    return Instance(service, server.name, Address(*server.address), Protocol.UDP)


@pytest.fixture
def one() -> Iterator[Answerer]:
    with Answerer("one") as made:
        yield made


@pytest.fixture
def two() -> Iterator[Answerer]:
    with Answerer("two") as made:
        yield made


async def until_counted(plane: RelayPlane, counter: str, count: int) -> None:
    async def counted() -> bool:
        return plane.stats().services["dns"].counters.get(counter) == count

    await eventually_async(counted, 10, f"{counter} is {count}")


async def test_a_front_for_datagrams_opens_and_closes_while_the_plane_runs(one: Answerer) -> None:
    async with running(2) as (plane, _):
        front = Front("syslog", free_port(), Protocol.UDP)
        await plane.open(front)
        await plane.apply("syslog", (instance(one, "syslog"),))
        with udp_client((HOST, front.port)) as client:
            assert await asyncio.to_thread(ask, client) == "one"
        await plane.close(front)

        async def free() -> bool:
            try:
                udp_socket(HOST, front.port).close()
            except OSError:
                return False
            return True

        await eventually_async(free, 10, "the port is free")


async def test_clients_of_several_workers_keep_their_instances(one: Answerer, two: Answerer) -> None:
    async with running(2) as (plane, port):
        await plane.apply("dns", (instance(one), instance(two)))
        with clients((HOST, port), 20) as many:
            first = [await asyncio.to_thread(ask, client) for client in many]
            assert set(first) == {"one", "two"}
            for _ in range(3):
                assert [await asyncio.to_thread(ask, client) for client in many] == first
            await until_counted(plane, "udp_sessions", 20)
            carried = plane.stats().services["dns"].instances
            assert carried["one"].connections + carried["two"].connections == 20


async def test_clients_of_a_worker_that_dies_are_served_by_the_next(one: Answerer) -> None:
    """The socket outlives it, and what waits in it is answered."""
    async with running(1) as (plane, port):
        await plane.apply("dns", (instance(one),))
        with udp_client((HOST, port)) as client:
            assert await asyncio.to_thread(ask, client) == "one"
            os.kill(plane.stats().processes[0], signal.SIGKILL)
            assert await asyncio.to_thread(ask_until, client, ["one"]) == "one"


async def test_clients_that_are_not_allowed_are_dropped_and_counted(one: Answerer) -> None:
    async with running(1, "--allow", "127.0.0.2/32") as (plane, port):
        await plane.apply("dns", (instance(one),))
        with udp_client((HOST, port), 0.3) as stranger, udp_socket("127.0.0.2") as member:
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(ask, stranger)
            member.connect((HOST, port))
            assert await asyncio.to_thread(ask, member) == "one"
        await until_counted(plane, "udp_denied", 1)
        await until_counted(plane, "udp_sessions", 1)
