"""Fronts of the relay plane that come and go while it works, whatever its workers are doing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from ambcore.model import Address, Instance, Protocol
from ambnet.relay.doors import hand_in
from ambnet.relay.protocol import Close, RouteSetup
from bench.load import Target, ask
from dynproxy import worker_process
from dynproxy.config import Front, read
from dynproxy.relay_plane import RelayPlane, relay_plane
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def running(*options: str) -> AsyncIterator[tuple[RelayPlane, Target]]:
    """A plane with one front of its own, for `first`."""
    port = free_port()
    async with relay_plane(read([f"first:{port}", "--listen", HOST, "--park", "20", *options], {})) as plane:
        yield plane, Target(port)


def front(service: str) -> Front:
    return Front(service, free_port(), Protocol.TCP, HOST)


def instance(service: str, server: NamedServer) -> Instance:
    return Instance(service, server.name, Address(HOST, server.port))


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


async def until_refused(port: int) -> None:
    async def look() -> bool:
        return refused(port)

    await eventually_async(look, 10, f"nobody listens on {port}")


async def test_another_front_of_a_service_that_is_known_serves_at_once() -> None:
    with NamedServer("a") as a:
        async with running("--workers", "2") as (plane, target):
            await plane.apply("first", (instance("first", a),))
            await plane.open(again := front("first"))
            assert {await ask(Target(again.port)) for _ in range(4)} == {await ask(target)} == {"a"}


async def test_a_front_that_was_closed_and_opened_again_learns_its_instances_anew() -> None:
    with NamedServer("a") as a, NamedServer("b") as b:
        async with running() as (plane, _):
            for server in (a, b, b):
                await plane.open(one := front("second"))
                asking = asyncio.create_task(ask(Target(one.port)))
                await plane.apply("second", (instance("second", server),))
                assert await asyncio.wait_for(asking, 10) == server.name
                await plane.apply("second", ())
                await plane.close(one)
                await until_refused(one.port)


async def test_a_new_worker_hears_nothing_of_a_front_that_was_closed() -> None:
    """It would not know what route is meant, and end over it."""
    with NamedServer("a") as a:
        async with running() as (plane, target):
            await plane.open(one := front("second"))
            for service in ("first", "second"):
                await plane.apply(service, (instance(service, a),))
            await plane.close(one)
            (dead,) = plane.stats().processes
            os.kill(dead, signal.SIGKILL)

            async def replaced() -> bool:
                return plane.stats().processes not in ((), (dead,))

            await eventually_async(replaced, 10, "another worker")
            assert await asyncio.wait_for(ask(target), 10) == "a"
            (successor,) = plane.stats().processes
            assert refused(one.port)
            await plane.open(one)
            await plane.apply("second", (instance("second", a),))
            assert await asyncio.wait_for(ask(Target(one.port)), 10) == "a"
            assert plane.stats().processes == (successor,)


async def test_what_is_closed_while_a_worker_hangs_stays_closed_when_it_wakes_up() -> None:
    """Both are told it by then, and the closing must not overtake the opening: the port would be held for ever."""
    async with running() as (plane, _):
        (hung,) = plane.stats().processes
        os.kill(hung, signal.SIGSTOP)
        fronts = [front("second") for _ in range(20)]
        for one in fronts:
            await plane.open(one)
            await plane.close(one)
        os.kill(hung, signal.SIGCONT)
        for one in fronts:
            await until_refused(one.port)
        assert plane.stats().processes == (hung,)


async def test_more_fronts_than_a_hung_worker_takes_wait_for_it_and_hold_up_nobody() -> None:
    with NamedServer("a") as a:
        async with running() as (plane, _):
            (hung,) = plane.stats().processes
            os.kill(hung, signal.SIGSTOP)
            fronts = [front("second") for _ in range(600)]  # a socket pair takes some 280

            async def open_all() -> None:
                for one in fronts:
                    await plane.open(one)

            opening = asyncio.create_task(open_all())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(opening), 1)
            os.kill(hung, signal.SIGCONT)
            await asyncio.wait_for(opening, 20)
            await plane.apply("second", (instance("second", a),))
            assert {await ask(Target(one.port)) for one in fronts[::60]} == {"a"}
            assert plane.stats().processes == (hung,)


async def test_what_the_kernel_does_not_pass_on_yet_is_handed_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without privileges may have so many on their way and no more; root may have any number, so it is acted."""
    refusals = iter([OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))] * 3)

    def reluctant(door: socket.socket, order: RouteSetup | Close) -> None:
        for refusal in refusals:
            raise refusal
        hand_in(door, order)

    with NamedServer("a") as a:
        async with running() as (plane, _):
            before = plane.stats().processes
            monkeypatch.setattr(worker_process, "hand_in", reluctant)
            await plane.open(one := front("first"))
            await plane.apply("first", (instance("first", a),))
            assert await asyncio.wait_for(ask(Target(one.port)), 10) == "a"
            assert (list(refusals), plane.stats().processes) == ([], before)


async def test_fronts_that_come_and_go_during_a_drain_change_nothing() -> None:
    async with running() as (plane, target):
        await plane.open(one := front("second"))
        _, writer = await asyncio.open_connection(target.host, target.port)  # it waits for an instance
        draining = asyncio.create_task(plane.drain(2))
        await until_refused(one.port)
        await plane.close(one)
        await plane.open(other := front("third"))
        assert refused(other.port)
        writer.close()
        await asyncio.wait_for(draining, 10)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_front_for_datagrams_frees_its_port_when_it_is_closed(workers: str) -> None:
    async with running("--workers", workers) as (plane, _):
        one = Front("second", free_port(), Protocol.UDP, HOST)

        async def free() -> bool:
            with socket.socket(type=socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
                probe.bind((HOST, one.port))
                return True
            return False

        for _ in range(2):
            await plane.open(one)
            assert not await free()
            await plane.close(one)
            await eventually_async(free, 10, "the port is free")
