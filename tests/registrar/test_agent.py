"""The agent in this process, with real Docker and real etcd, where a test has to shorten a constant."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ambcore.containers import EngineInfo
from ambcore.errors import DockerError
from ambcore.model import Instance, IPAddress, Readiness, parse_ip
from ambcore.registration.extract import Wish
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.lease import LeaseKeeper
from ambnet.registry import Registry
from registrar import reconcile
from registrar.agent import Agent
from tests.registrar.scene import ADVERTISED, SERVICE, Records
from tests.support.docker_engine import Docker
from tests.support.etcd_cluster import EtcdCluster
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.docker, pytest.mark.etcd]


@contextlib.asynccontextmanager
async def running_agent(etcd: EtcdCluster, prefix: str, docker: Docker, container: str) -> AsyncIterator[Agent]:
    async with (
        Engine(docker.url, {}) as engine,
        Etcd(EtcdConfig(etcd.endpoints)) as client,
        LeaseKeeper(client, 10) as keeper,
        Registry(client, keeper, owner="host", epoch="1", prefix=prefix) as registry,
    ):

        async def open_records(_: EngineInfo) -> Registry:
            return registry

        async def route() -> IPAddress | None:
            return parse_ip(ADVERTISED)

        agent = Agent(Wish(container, 80, SERVICE), engine, open_records, route=route)
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await registry.close(deregister=True)


def state(agent: Agent) -> Readiness | None:
    return agent.held.readiness if isinstance(agent.held, Instance) else None


async def test_who_outlives_a_terminating_signal_takes_connections_again(
    docker: Docker, shared_etcd: EtcdCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "GRACE", 1.0)
    monkeypatch.setattr(reconcile, "GRACE_MARGIN", 0.0)
    stubborn = ("sh", "-c", "trap : TERM; while :; do sleep 0.1; done")
    name = await asyncio.to_thread(docker.run, "-p", "80", command=stubborn)
    async with running_agent(shared_etcd, prefix, docker, name) as agent:

        async def held(wanted: Readiness) -> bool:
            return state(agent) is wanted

        await eventually_async(lambda: held(Readiness.UP))
        await asyncio.to_thread(docker, "kill", "-s", "TERM", name)
        await eventually_async(lambda: held(Readiness.DRAINING))
        await eventually_async(lambda: held(Readiness.UP), seconds=3)
        records = Records(shared_etcd, prefix)
        assert "state" not in await asyncio.to_thread(records.appears, name, host=ADVERTISED)
        assert agent.settled
    assert await asyncio.to_thread(records.all) == {}


async def test_a_daemon_that_tells_events_only_is_said_once_and_asked_again_soon(
    docker: Docker,
    shared_etcd: EtcdCluster,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A proxy before it may forbid one and not the other; and a busy daemon may miss the time that an answer has."""
    monkeypatch.setattr("registrar.agent.LOOK_AGAIN", 0.1)
    inspect, refused = Engine.inspect, 0

    async def forbidden(engine: Engine, name: str) -> dict[str, Any] | None:
        nonlocal refused
        refused += 1
        raise DockerError("403 Client Error: Forbidden")

    monkeypatch.setattr(Engine, "inspect", forbidden)
    name = await asyncio.to_thread(docker.run, "-p", "80")
    caplog.set_level(logging.INFO, "registrar")
    async with running_agent(shared_etcd, prefix, docker, name) as agent:

        async def asked_often() -> bool:
            return refused >= 4

        await eventually_async(asked_often)
        monkeypatch.setattr(Engine, "inspect", inspect)

        async def held() -> bool:
            return state(agent) is Readiness.UP

        await eventually_async(held, seconds=3)
        said = [record.levelname for record in caplog.records if "docker tells" in record.message]
        assert said == ["WARNING", "INFO"]
