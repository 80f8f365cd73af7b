"""The Engine API's edge: events and inspections, and what happens when the daemon does not play along."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ambcore.containers import ContainerEvent, EngineMessage, Lost, Subscribed
from ambcore.errors import ConfigError, DockerError
from ambnet import dockerd
from ambnet.dockerd import Engine, parse_event
from tests.support.docker_engine import HOST_SOCKET, IMAGE, Docker
from tests.support.waiting import eventually_async

ID = "4f" * 32


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            (
                b'{"status":"die","id":"ID","Type":"container","Action":"die","Actor":{"ID":"ID","Attributes":'
                b'{"exitCode":"137","image":"x","name":"redis"}},"scope":"local","time":7,"timeNano":7000000001}'
            ),
            ContainerEvent("die", ID, "redis", exit_code=137, time=7_000_000_001),
        ),
        (
            b'{"Type":"container","Action":"kill","Actor":{"ID":"ID","Attributes":{"name":"redis","signal":"15"}}}',
            ContainerEvent("kill", ID, "redis", signal="15"),
        ),
        (
            b'{"Type":"container","Action":"health_status: unhealthy","Actor":{"ID":"ID","Attributes":{"name":"a"}}}',
            ContainerEvent("health_status", ID, "a", health="unhealthy"),
        ),
        (
            b'{"Type":"container","Action":"rename","Actor":{"ID":"ID","Attributes":{"name":"b","oldName":"/a"}}}',
            ContainerEvent("rename", ID, "b", "a"),
        ),
        (
            b'{"Type":"network","Action":"connect","Actor":{"ID":"net","Attributes":{"container":"ID","name":"n"}}}',
            ContainerEvent("connect", ID),
        ),
        (  # Podman
            b'{"Type":"container","Action":"died","Actor":{"ID":"ID","Attributes":{"containerExitCode":"1"}},"time":7}',
            ContainerEvent("die", ID, exit_code=1, time=7_000_000_000),
        ),
        (
            b'{"Type":"container","Action":"health_status","Actor":{"ID":"ID","Attributes":{"health_status":"healthy"}}}',
            ContainerEvent("health_status", ID, health="healthy"),
        ),
        (b'{"Type":"network","Action":"create","Actor":{"ID":"net","Attributes":{}}}', None),
        (b'{"Type":"container"}', None),
        (b'{"Actor":7,"Action":"x"}', None),
        (b'{"Type":"container","Action":"x","Actor":{"ID":"ID","Attributes":7}}', None),
        (b'{"time":"x","Action":"die","id":"ID"}', None),
        (b"[]", None),
        (b"no JSON", None),
        (b"", None),
    ],
)
def test_events_are_read_as_docker_and_podman_write_them(line: bytes, expected: ContainerEvent | None) -> None:
    assert (
        parse_event(line.replace(b'"ID"', b'"%s"' % ID.encode()).replace(f'"{ID}":"'.encode(), b'"ID":"')) == expected
    )


class Follower:
    """Collects what an engine says, in the background."""

    def __init__(self, engine: Engine) -> None:
        self.messages: list[EngineMessage] = []
        self.times: list[float] = []
        self._news = asyncio.Condition()
        self._engine = engine

    async def run(self) -> None:
        async with contextlib.aclosing(self._engine.events()) as messages:
            async for message in messages:
                self.messages.append(message)
                self.times.append(time.monotonic())
                async with self._news:
                    self._news.notify_all()

    async def until(self, happened: Callable[[list[EngineMessage]], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: happened(self.messages))

    def actions(self) -> list[str]:
        return [message.action for message in self.messages if isinstance(message, ContainerEvent)]


@contextlib.asynccontextmanager
async def following(url: str) -> AsyncIterator[tuple[Engine, Follower]]:
    async with Engine(url, environ={}) as engine:
        follower = Follower(engine)
        task = asyncio.create_task(follower.run())
        try:
            yield engine, follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def subscribed(messages: list[EngineMessage]) -> bool:
    return bool(messages) and isinstance(messages[-1], Subscribed)


def lost(messages: list[EngineMessage]) -> bool:
    return bool(messages) and isinstance(messages[-1], Lost)


@pytest.mark.docker
async def test_a_containers_life_is_told_and_inspected(docker: Docker) -> None:
    async with following(HOST_SOCKET) as (engine, follower):
        await follower.until(subscribed)
        name = await asyncio.to_thread(docker.run, "-p", "80")
        await asyncio.to_thread(docker, "kill", "-s", "WINCH", name)
        await asyncio.to_thread(docker, "rm", "-f", name)

        def mine(messages: list[EngineMessage]) -> list[ContainerEvent]:
            return [m for m in messages if isinstance(m, ContainerEvent) and m.name == name]

        await follower.until(lambda messages: any(m.action == "destroy" for m in mine(messages)))
        told = mine(follower.messages)
        assert [m.action for m in told if m.action != "die"] == ["create", "start", "kill", "kill", "destroy"]
        assert [m.signal for m in told if m.action == "kill"] == ["28", "9"]
        assert [m.time for m in told] == sorted(m.time for m in told)
        assert await engine.inspect(name) is None
        assert (await engine.info()).id
        assert (await engine.bridges())["bridge"]


@pytest.mark.docker
async def test_closing_ends_the_stream_at_once(docker: Docker) -> None:
    async with following(docker.url) as (engine, follower):
        await follower.until(subscribed)
        began = time.monotonic()
        engine.close()
        engine.close()
        await follower.until(lost)
        assert time.monotonic() - began < 1


async def test_pain_5_an_absent_daemon_is_asked_at_most_twice_in_the_first_second(tmp_path: Path) -> None:
    async with following(f"unix://{tmp_path}/none.sock") as (engine, follower):
        await follower.until(lambda messages: len(messages) == 3)
        assert all(isinstance(message, Lost) for message in follower.messages)
        assert follower.times[2] - follower.times[0] > 0.6
        assert "No such file or directory" in str(follower.messages[0])
        assert "\n" not in str(follower.messages[0])
        assert not engine.connected
        with pytest.raises(DockerError):
            await engine.inspect("x")


class FakeDaemon:
    """Speaks just enough HTTP to misbehave; `answer` gets each request's path and its connection."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []
        self.mute = self.hasty = False  # hasty: it ends each event stream at once
        self.refusal = b""  # the body of the answer to whoever inspects, none for what a healthy daemon says
        self._path = path
        self._open: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None] | None] = []

    async def __aenter__(self) -> FakeDaemon:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*filter(None, self._tasks))

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def was_asked_to_inspect(self) -> bool:
        return any("/containers/" in request for request in self.requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        self._tasks.append(asyncio.current_task())
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
                self.requests.append(request)
                if self.mute:
                    continue
                if "/events" in request:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    event = b'{"Type":"container","Action":"start","Actor":{"ID":"x"}}\n'
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event) + b"0\r\n\r\n" * self.hasty)
                elif self.refusal and "/containers/" in request:
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(self.refusal))
                    writer.write(self.refusal)
                else:
                    body = b'{"ApiVersion":"1.41"}'
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_a_broken_stream_is_opened_anew(tmp_path: Path) -> None:
    """docker-socket-proxy cuts it every ten minutes; the SDK makes that a plain end of iteration."""
    async with FakeDaemon(tmp_path / "d.sock") as daemon, following(daemon.url) as (_, follower):
        await follower.until(lambda messages: len(messages) == 2)
        daemon.cut()
        await follower.until(lambda messages: len(messages) == 5)
        assert [type(message) for message in follower.messages] == [
            Subscribed,
            ContainerEvent,
            Lost,
            Subscribed,
            ContainerEvent,
        ]


async def test_a_stream_that_ends_whenever_it_is_opened_is_opened_with_pauses_that_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs the daemon a list of all containers, and a look at each; one that has lasted may be opened soon."""
    monkeypatch.setattr(dockerd, "FIRST_RETRY", 0.1)
    monkeypatch.setattr(dockerd, "LAST_RETRY", 1.0)
    async with FakeDaemon(tmp_path / "d.sock") as daemon, following(daemon.url) as (_, follower):
        daemon.hasty = True
        daemon.cut()
        await follower.until(lambda messages: sum(isinstance(m, Subscribed) for m in messages) == 6)
        opened = [at for at, m in zip(follower.times, follower.messages, strict=True) if isinstance(m, Subscribed)]
        assert opened[5] - opened[4] > 0.5
        daemon.hasty = False
        await follower.until(lambda messages: sum(isinstance(m, Subscribed) for m in messages) == 7)


async def test_B11_docker_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that accepts and never replies is noticed within ten seconds, and left as soon as it answers again."""
    monkeypatch.setattr(dockerd, "PROBE", 0.5)
    monkeypatch.setattr(dockerd, "ANSWER", 1)
    async with FakeDaemon(tmp_path / "d.sock") as daemon, following(daemon.url) as (engine, follower):
        await follower.until(lambda messages: len(messages) == 2)
        daemon.mute = True
        with pytest.raises(DockerError, match=r"timed out|no answer"):
            await engine.inspect("x")
        await follower.until(lost, seconds=4)
        daemon.mute = False
        daemon.cut()
        await follower.until(lambda messages: sum(isinstance(m, Subscribed) for m in messages) == 2)


@pytest.mark.parametrize("refusal", ['{"error":"denied"}', '["denied"]', '"denied"', "null", "7", "<html>denied"])
async def test_a_refusal_in_whatever_words_is_an_error_of_the_daemons(refusal: str, tmp_path: Path) -> None:
    """A filter in front of it has its own; the SDK knows Docker's alone."""
    async with FakeDaemon(tmp_path / "d.sock") as daemon, Engine(daemon.url, {}) as engine:
        daemon.refusal = refusal.encode()
        await engine.connect()
        with pytest.raises(DockerError, match=daemon.url):
            await engine.inspect("x")


async def test_a_stream_silent_for_long_is_renewed_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its own connection may have died, unnoticed behind a NAT."""
    monkeypatch.setattr(dockerd, "PROBE", 0.1)
    monkeypatch.setattr(dockerd, "RENEW", 0.3)
    async with FakeDaemon(tmp_path / "d.sock") as daemon, following(daemon.url) as (_, follower):
        await follower.until(lambda messages: sum(isinstance(m, Subscribed) for m in messages) == 3)
        assert not any(isinstance(message, Lost) for message in follower.messages)
        assert sum("_ping" in request for request in daemon.requests) >= 3


async def test_the_events_asked_for_spare_the_daemons_buffer(tmp_path: Path) -> None:
    async with FakeDaemon(tmp_path / "d.sock") as daemon, following(daemon.url) as (_, follower):
        await follower.until(lambda messages: len(messages) == 2)
        asked = next(request for request in daemon.requests if "/events" in request)
        assert "exec" not in asked
        assert "health_status" in asked


def test_a_proxy_in_the_environment_is_ignored_and_a_bad_certificate_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DOCKER_CERT_PATH"):
        Engine("tcp://127.0.0.1:2376", {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)})


async def test_an_abandoned_call_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with FakeDaemon(tmp_path / "d.sock") as daemon:
        async with following(daemon.url) as (engine, follower):
            await follower.until(lambda messages: len(messages) == 2)
            daemon.mute = True
            pending: Awaitable[object] = asyncio.ensure_future(engine.inspect("x"))
            await eventually_async(daemon.was_asked_to_inspect)
            began = time.monotonic()
        assert time.monotonic() - began < 1
    with contextlib.suppress(DockerError):
        await pending


async def test_a_glimpse_tells_of_a_labelled_container_what_a_look_would(docker: Docker) -> None:
    name, other = docker.name(), docker.name()
    docker("create", "--name", name, "--label", "wish=x", IMAGE, "true")
    docker("create", "--name", other, IMAGE, "true")
    looked = docker.inspect(name)
    identities = (looked["Id"], docker.inspect(other)["Id"])
    async with Engine(docker.url, {}) as engine:
        await engine.connect()
        (found,) = await engine.glimpse(identities, "wish")
        assert (found["Id"], found["Name"], found["Config"]["Labels"]) == (looked["Id"], name, {"wish": "x"})
        assert found["HostConfig"]["NetworkMode"] == looked["HostConfig"]["NetworkMode"]
        assert found["NetworkSettings"]["Networks"].keys() == looked["NetworkSettings"]["Networks"].keys()


async def test_networks_are_told_with_their_gateways(docker: Docker) -> None:
    async with Engine(docker.url, {}) as engine:
        await engine.connect()
        found = {network["Name"]: network for network in await engine.networks()}
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    assert found["bridge"]["IPAM"]["Config"][0]["Gateway"] == gateway
    assert found["host"]["Driver"] == "host"
