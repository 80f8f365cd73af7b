"""The relay plane's care for its workers: those that die, hang or start at an awkward moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from ambcore.model import Address, Instance, Protocol
from bench.load import Target, ask
from dynproxy.config import Front, read
from dynproxy.relay_plane import RelayPlane, relay_plane
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

SERVICE = "redis-A"


@contextlib.asynccontextmanager
async def running(workers: int) -> AsyncIterator[tuple[RelayPlane, Target]]:
    port = free_port()
    settings = read([SERVICE, str(port), "--listen", "127.0.0.1", "--workers", str(workers)], {})
    async with relay_plane(settings) as plane:
        yield plane, Target(port)


def instance(server: NamedServer, service: str = SERVICE) -> Instance:
    return Instance(service, server.name, Address("127.0.0.1", server.port))


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - their number is all we want


async def until_processes(plane: RelayPlane, count: int) -> None:
    async def counted() -> bool:
        return len(plane.stats().processes) == count

    await eventually_async(counted, 5, f"{count} workers run")


async def test_a_hung_worker_keeps_no_changes_from_the_others_and_is_replaced() -> None:
    """Clients go to workers that accept, and those must know the newest instances while the other is waited for."""
    with NamedServer("a") as a, NamedServer("b") as b:
        async with running(2) as (plane, target):
            await plane.apply(SERVICE, (instance(a),))
            hung = plane.stats().processes[0]
            os.kill(hung, signal.SIGSTOP)
            began = time.monotonic()
            for server in (b, a, b):
                await plane.apply(SERVICE, (instance(server),))
            assert time.monotonic() - began < 5  # half of what ends a hung worker
            assert {await ask(target) for _ in range(10)} == {"b"}

            async def replaced() -> bool:
                return len(set(plane.stats().processes) - {hung}) == 2

            await eventually_async(replaced, 15, "the hung worker is replaced")
            assert {await ask(target) for _ in range(10)} == {"b"}


async def test_a_hung_worker_that_wakes_up_learns_what_it_missed() -> None:
    with NamedServer("a") as a, NamedServer("b") as b:
        async with running(1) as (plane, target):
            await plane.apply(SERVICE, (instance(a),))
            (hung,) = plane.stats().processes
            os.kill(hung, signal.SIGSTOP)
            for server in (b, a, b):
                await plane.apply(SERVICE, (instance(server),))
            os.kill(hung, signal.SIGCONT)

            async def learnt() -> bool:
                return await ask(target) == "b"

            await eventually_async(learnt, 5)
            assert plane.stats().processes == (hung,)


async def test_changes_while_a_worker_starts_reach_it() -> None:
    """It is being replaced: what is said before it can hear is said when it can."""
    with NamedServer("a") as a, NamedServer("b") as b:
        async with running(1) as (plane, target):
            await plane.apply(SERVICE, (instance(a),))
            os.kill(plane.stats().processes[0], signal.SIGKILL)
            for _ in range(200):  # at every step of the replacement
                applying = [asyncio.create_task(plane.apply(SERVICE, (instance(server),))) for server in (a, b)]
                await asyncio.wait(applying, timeout=0.002)
                if all(task.done() for task in applying):
                    await asyncio.gather(*applying)
            await asyncio.wait_for(plane.apply(SERVICE, (instance(b),)), 5)
            assert await ask(target) == "b"


async def test_instances_applied_while_their_route_is_opened_reach_workers_that_know_it() -> None:
    """Whoever opens a front and whoever follows its service do not wait for each other."""
    with NamedServer("a") as a:
        async with running(2) as (plane, _):
            before, later = plane.stats().processes, Target(free_port())
            opening = plane.open(Front("later", later.port, Protocol.TCP))
            await asyncio.gather(opening, plane.apply("later", (instance(a, "later"),)))
            assert {await ask(later) for _ in range(10)} == {"a"}
            assert plane.stats().processes == before


async def test_a_worker_that_dies_just_before_a_drain_is_not_replaced() -> None:
    """There is nothing left that it could listen on, and the others' clients are to finish undisturbed."""
    with NamedServer("a") as a:
        async with running(2) as (plane, target):
            await plane.apply(SERVICE, (instance(a),))
            reader, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"

            idle = min(plane.stats().processes, key=open_files)  # the other one has a client and an instance
            os.kill(idle, signal.SIGKILL)
            await until_processes(plane, 1)
            draining = asyncio.create_task(plane.drain(5))
            await asyncio.sleep(0.5)  # ten times the pause before a replacement
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
            writer.close()
            await asyncio.wait_for(draining, 2)
            assert plane.stats().healthy, "a worker that has ended in a drain is no fault"


async def test_a_drain_in_front_of_sockets_that_wait_to_be_handed_in_lets_connections_finish() -> None:
    """A worker that stands still takes none; when it goes on there is nothing left to hand in."""
    with NamedServer("a") as a:
        async with running(1) as (plane, target), asyncio.TaskGroup() as opening:
            await plane.apply(SERVICE, (instance(a),))
            reader, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
            (worker,) = plane.stats().processes
            os.kill(worker, signal.SIGSTOP)
            waiting: set[asyncio.Task[None]] = set()
            while not waiting:  # one that finds room takes a thousandth of the time
                front = Front("later", free_port(), Protocol.TCP)
                _, waiting = await asyncio.wait([opening.create_task(plane.open(front))], timeout=0.2)
            draining = asyncio.create_task(plane.drain(5))
            await asyncio.wait(waiting)
            os.kill(worker, signal.SIGCONT)
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
            writer.close()
            await asyncio.wait_for(draining, 5)


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_descriptor_but_its_own_comes_to_a_worker(workers: int) -> None:
    """stdin, stdout, stderr, the control channel, the door, the port twice; epoll and the bell are made by itself."""
    async with running(workers) as (plane, _):
        for pid in plane.stats().processes:
            assert open_files(pid) == 9
