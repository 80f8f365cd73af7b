"""A Docker daemon's answers without one: hosts of any size, and events that arrive, get lost or stop coming.

    with FakeDocker(folder) as fake:
        fake.start("web", "8080:80/tcp")      # as dockerd does it: the state first, then the event
        fake.deaf = True                      # from now on no event is sent
        fake.stop("web"); fake.remove("web")

Its containers are what `docker inspect` of a real one said, with names, ids and ports put in.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aiohttp import web

RECORDED: dict[str, Any] = {
    "Id": "",
    "Created": "2026-01-02T03:04:05.123456789Z",
    "Name": "",
    "RestartCount": 0,
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 1234,
        "ExitCode": 0,
        "StartedAt": "",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Config": {"Image": "amb-test/tiny", "Env": ["PATH=/bin"], "Labels": {}, "ExposedPorts": {}},
    "HostConfig": {"NetworkMode": "default", "PortBindings": {}, "PublishAllPorts": False},
    "NetworkSettings": {"Ports": {}, "Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}},
}


class FakeDocker:
    """One daemon at a unix socket, in a thread of its own. `requests` counts by kind: list, inspect, events, …"""

    def __init__(self, folder: Path, name: str = "fakehost") -> None:
        self.path = folder / "fake-docker.sock"
        self.url = f"unix://{self.path}"
        self.name = name
        self.containers: dict[str, dict[str, Any]] = {}
        self.requests: Counter[str] = Counter()
        self.deaf = False  # events are lost
        self.refusing: set[str] = set()  # names of containers that cannot be inspected
        self.slow = 0.0  # seconds that each inspection takes
        self.like_podman = False  # its id is another in every answer
        self._streams: list[web.StreamResponse] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="fake-docker")
        self._started = threading.Event()
        self._end: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *failure: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._loop.close()

    # What happens to containers; may be called from any thread, and from the loop of a test

    def start(self, name: str, *ports: str, labels: dict[str, str] | None = None, image: str = "amb-test/tiny") -> str:
        """Make and start a container that publishes `HOST:INSIDE/PROTOCOL` on all addresses; returns its id."""
        found = copy.deepcopy(RECORDED)
        found["Id"] = identity = hashlib.sha256(f"{name} {time.time_ns()}".encode()).hexdigest()
        found["Name"] = f"/{name}"
        found["Config"] |= {"Labels": labels or {}, "Image": image}
        for port in ports:
            outside, _, inside = port.partition(":")
            bindings = [{"HostIp": "0.0.0.0", "HostPort": outside}, {"HostIp": "::", "HostPort": outside}]  # noqa: S104
            found["Config"]["ExposedPorts"][inside] = {}
            found["HostConfig"]["PortBindings"][inside] = [{"HostIp": "", "HostPort": outside}]
            found["NetworkSettings"]["Ports"][inside] = bindings
        found["State"]["StartedAt"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.containers[identity] = found
        for action in ("create", "start"):
            self._tell(action, found)
        return identity

    def stop(self, name: str) -> None:
        """As `docker stop` of one that ends at once."""
        found = self._named(name)
        self._tell("kill", found, signal="15")
        found["State"] |= {"Status": "exited", "Running": False}
        found["NetworkSettings"] |= {"Ports": {}}
        self._tell("die", found, exitCode="143")

    def remove(self, name: str) -> None:
        """Take a container away, running or not."""
        found = self._named(name)
        if found["State"]["Running"]:
            self.stop(name)
        del self.containers[found["Id"]]
        self._tell("destroy", found)

    def say(self, action: str, name: str, **attributes: str) -> None:
        """An event by itself."""
        self._tell(action, self._named(name), **attributes)

    def cut(self) -> None:
        """Break off every stream of events."""

        def close() -> None:
            for stream in self._streams:
                if stream._req is not None and stream._req.transport is not None:
                    stream._req.transport.abort()

        self._loop.call_soon_threadsafe(close)

    def _named(self, name: str) -> dict[str, Any]:
        return next(each for each in self.containers.values() if each["Name"] == f"/{name}")

    def _tell(self, action: str, found: dict[str, Any], **attributes: str) -> None:
        if self.deaf:
            return
        actor = {"ID": found["Id"], "Attributes": {"name": found["Name"][1:], **attributes}}
        event = {"Type": "container", "Action": action, "Actor": actor, "timeNano": time.time_ns()}
        self._loop.call_soon_threadsafe(self._send, json.dumps(event).encode() + b"\n")

    def _send(self, line: bytes) -> None:
        for stream in self._streams:
            task = self._loop.create_task(stream.write(line))
            task.add_done_callback(lambda done: done.exception())

    # What is asked

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._life())

    async def _life(self) -> None:
        self._end = asyncio.Event()
        application = web.Application()
        for path, answer in self._answers().items():
            for version in ("", "/{version:v[0-9.]+}"):
                application.router.add_get(version + path, answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, self.path).start()
        self._started.set()
        await self._end.wait()
        await runner.cleanup()

    def _answers(self) -> dict[str, Callable[[web.Request], Any]]:
        return {
            "/_ping": self._ping,
            "/version": self._version,
            "/info": self._info,
            "/networks": self._networks,
            "/events": self._events,
            "/containers/json": self._list,
            "/containers/{name}/json": self._inspect,
        }

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Version": "20.10.24"})

    async def _info(self, _: web.Request) -> web.Response:
        self.requests["info"] += 1
        identity = f"{self.requests['info']:08}" if self.like_podman else f"ID:OF:{self.name}"
        return web.json_response({"Name": self.name, "ID": identity, "ServerVersion": "20.10.24"})

    async def _networks(self, _: web.Request) -> web.Response:
        return web.json_response([{"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}])

    async def _list(self, _: web.Request) -> web.Response:
        self.requests["list"] += 1
        found = [{"Id": each["Id"], "Names": [each["Name"]]} for each in list(self.containers.values())]
        return web.json_response(found)

    async def _inspect(self, request: web.Request) -> web.Response:
        self.requests["inspect"] += 1
        found = copy.deepcopy(self.containers.get(request.match_info["name"]))
        if self.slow:
            await asyncio.sleep(self.slow)
        if found is None:
            return web.json_response({"message": "No such container"}, status=404)
        if found["Name"][1:] in self.refusing:
            return web.json_response({"message": "it is in the way of itself"}, status=500)
        return web.json_response(found)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.requests["events"] += 1
        stream = web.StreamResponse()
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        self._streams.append(stream)
        try:
            with contextlib.suppress(ConnectionError):
                while request.transport is not None and not request.transport.is_closing():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await self._end.wait()
                            break
        finally:
            self._streams.remove(stream)
        return stream
