"""The Docker Engine's API, read-only: follow the events, list the containers, inspect one.

The SDK blocks, so each call runs in a thread of its own that may be abandoned (a hung daemon must hold up neither the
loop nor our end); calls are few. What is used: `/_ping`, `/version`, `/events`, `/containers/json`,
`/containers/<name>/json`, `/info` and, where allowed, `/networks`. Foreign errors leave here as DockerError.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
import os
import random
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import requests
import urllib3
from docker import APIClient
from docker.errors import DockerException, NotFound
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from ambcore import shape
from ambcore.admission import IPNetwork
from ambcore.backoff import backoff
from ambcore.containers import ContainerEvent, EngineInfo, EngineMessage, Lost, Subscribed
from ambcore.errors import ConfigError, DockerError
from ambnet.docker_options import DEFAULT_URL, Tls
from ambnet.threads import in_thread

log = logging.getLogger("docker")

T = TypeVar("T")

ANSWER = 5  # seconds for any answer; a healthy daemon takes milliseconds, a busy one was seen to take one or two
PROBE = 5.0  # seconds of silent stream before asking on another connection whether the daemon still lives
RENEW = 300.0  # seconds of silence after which a stream is opened anew: its own connection may have died unnoticed
FIRST_RETRY, LAST_RETRY = 0.6, 5.0  # jittered to 0.3-0.6 s first: at most two attempts in the first second

# Asked of the server as a filter: the exec events of health checks would flood its ring of 256 (moby daemon/events).
# `died` is Podman's old spelling of `die`.
ACTIONS = (
    *("create", "start", "die", "died", "kill", "pause", "unpause", "rename", "destroy", "health_status"),
    *("connect", "disconnect"),
)


class Engine:
    """One Docker daemon, by URL. `close()` ends everything at once; nothing may be awaited after it.

    Without `tls`, the Docker CLI's variables in `environ` say whether TLS is spoken.
    """

    def __init__(
        self, url: str = DEFAULT_URL, environ: Mapping[str, str] = os.environ, *, tls: Tls | None = None
    ) -> None:
        self.url = url
        self.connected = False
        self.reconnects = 0
        self._arguments = _client_arguments(url, environ) if tls is None else _tls_arguments(url, tls)
        self._client: APIClient | None = None
        self._stream: _Stream | None = None

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the event stream and drop the connections; closing twice is fine."""
        if self._stream is not None:
            self._stream.close()
        if self._client is not None:
            self._client.close()
        self._stream = self._client = None
        self.connected = False

    async def events(self) -> AsyncGenerator[EngineMessage, None]:
        """Endless: Subscribed, then events; Lost when the daemon went away, and at each vain attempt to reach it."""
        delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while True:
            opened = math.inf
            try:
                stream = await self._subscribe()
                opened = time.monotonic()
                self.connected = True
                yield Subscribed()
                async with contextlib.aclosing(self._follow(stream)) as events:
                    async for event in events:
                        yield event
                continue  # ended by silence alone
            except DockerError as error:
                self.close()
                yield Lost(str(error))
            if time.monotonic() - opened > LAST_RETRY:  # whoever ends each at once is asked less and less
                delays = backoff(FIRST_RETRY, LAST_RETRY, random.random)
            await asyncio.sleep(next(delays))
            self.reconnects += 1

    async def connect(self) -> None:
        """Reach the daemon to ask it something; whoever follows `events` need not. Raises DockerError."""
        if self._client is None:
            self._client = await self._call(self._connect)

    async def list(self) -> dict[str, str]:
        """Every container there is, running or not: full id -> name."""
        containers = await self._call(lambda: shape.containers(self._connection().containers(all=True)))
        return {container["Id"]: _own_name(container.get("Names") or ()) for container in containers}

    async def glimpse(self, containers: Sequence[str], label: str) -> tuple[Mapping[str, Any], ...]:
        """Those of the containers, by full id, that bear a label, as far as a list tells, in the words of `inspect`.

        The daemon does not answer `inspect` while it starts the container; it lists it all the same.
        """
        only = {"id": list(containers), "label": [label]}  # lists: of a tuple the SDK makes something else
        found = await self._call(lambda: shape.containers(self._connection().containers(all=True, filters=only)))
        return tuple(
            {**each, "Name": _own_name(each.get("Names") or ()), "Config": {"Labels": each.get("Labels")}}
            for each in found
        )

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """Everything the daemon knows of a container, by name or id; None if it does not exist."""
        client = self._connection()

        def ask() -> dict[str, Any] | None:
            try:
                return shape.container(client.inspect_container(name))
            except NotFound:
                return None

        return await self._call(ask)

    async def info(self) -> EngineInfo:
        """Which daemon this is; an id that is another each time, as Podman's, is none."""
        answer, again = [await self._call(lambda: shape.engine(self._connection().info())) for _ in range(2)]
        lasting = str(answer.get("ID", "")) if answer.get("ID") == again.get("ID") else ""
        return EngineInfo(str(answer.get("Name", "")), lasting, str(answer.get("ServerVersion", "")))

    async def bridges(self) -> dict[str, tuple[IPNetwork, ...]]:
        """The subnets of the daemon's bridge networks by name; docker0's is called `bridge`.

        Empty if a filtering proxy before the daemon does not let us ask.
        """
        only = {"driver": "bridge"}
        try:
            networks = await self._call(lambda: shape.networks(self._connection().networks(filters=only)))
        except DockerError as error:
            log.debug("cannot list networks: %s", error)
            return {}
        return {str(network.get("Name")): tuple(_subnets(network)) for network in networks}

    async def networks(self) -> tuple[Mapping[str, Any], ...]:
        """Everything the daemon knows of its networks."""
        return tuple(await self._call(lambda: shape.networks(self._connection().networks())))

    def _connection(self) -> APIClient:
        if self._client is None:
            raise DockerError(f"{self.url}: not connected")
        return self._client

    async def _subscribe(self) -> _Stream:
        """A fresh client, as the daemon may be another version than before, and its event stream."""
        old = self._stream
        await self.connect()
        client = self._connection()
        await self._call(client.ping)
        response = await self._call(lambda: _open_events(client))
        self._stream = _Stream(response)
        if old is not None:
            old.close()
        return self._stream

    def _connect(self) -> APIClient:
        _knock(self.url)
        return _Client(version="auto", timeout=ANSWER, **self._arguments)

    async def _follow(self, stream: _Stream) -> AsyncGenerator[ContainerEvent, None]:
        """Its events until it has been silent for RENEW; raises DockerError when the daemon is gone."""
        silent = 0.0
        while silent < RENEW:
            try:
                async with asyncio.timeout(PROBE):
                    event = await stream.queue.get()
            except TimeoutError:
                silent += PROBE
                await self._call(self._connection().ping)
                continue
            if event is None:
                raise DockerError(f"{self.url}: the event stream broke off")
            silent = 0.0
            yield event

    async def _call(self, function: Callable[[], T]) -> T:
        """Run a blocking call in a thread; raises DockerError, also when there is no answer in time."""
        try:
            async with asyncio.timeout(ANSWER + 1):  # requests bounds each read, not their sum
                return await in_thread(function, "docker-call")
        except TimeoutError as error:
            raise DockerError(f"{self.url}: no answer within {ANSWER + 1} s") from error
        except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise DockerError(f"{self.url}: {_reason(error)}") from error
        except RecursionError as error:
            raise DockerError(f"{self.url}: its answer is nested too deeply") from error
        except (LookupError, TypeError, AttributeError) as error:
            # The SDK takes it for granted that a refusal in JSON is an object with a `message`.
            raise DockerError(f"{self.url}: an answer that cannot be read ({error!r})") from error


class _Client(APIClient):
    """The SDK's, heedless of the environment from its first question on, which it asks while it is made: an http_proxy
    or a REQUESTS_CA_BUNDLE has no business between us and the daemon.
    """

    trust_env = property(lambda _: False, lambda _self, _value: None)


class _Stream:
    """An open `/events` response, read by a thread into `queue`; None in it says that the stream ended."""

    def __init__(self, response: requests.Response) -> None:
        self.queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._response = response
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="docker-events", daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._response.iter_lines(chunk_size=None):
                if (event := parse_event(line)) is not None:
                    self._push(event)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, AttributeError) as error:
            log.debug("event stream: %s", error)  # AttributeError: urllib3 reading what close() has just taken away
        finally:
            self._push(None)
            self._response.close()

    def _push(self, event: ContainerEvent | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody listens any more
            self._loop.call_soon_threadsafe(self.queue.put_nowait, event)

    def close(self) -> None:
        """Wake the reader, which then closes the connection; closing twice is fine."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._response.raw.shutdown()


def _knock(url: str) -> None:
    """Raises OSError if nobody listens at a socket's path. While a daemon is away it is asked often, and the SDK leaves
    the socket of each vain connect to the garbage collector.
    """
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(ANSWER)
            door.connect(url.removeprefix("unix://"))


def _open_events(client: APIClient) -> requests.Response:
    """Subscribe. Not by the SDK's own `events()`, which has no read timeout and hides why a stream ended."""
    filters = json.dumps({"type": ["container", "network"], "event": list(ACTIONS)})
    url = f"{client.base_url}/v{client.api_version}/events"
    response = client.get(url, params={"filters": filters}, stream=True, timeout=(ANSWER, RENEW + PROBE))
    response.raise_for_status()
    return response


def parse_event(line: bytes) -> ContainerEvent | None:
    """An event as the API writes it, Docker's spelling or Podman's; None for one that tells nothing of a container."""
    try:
        raw = json.loads(line)
        actor = raw.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        action, _, detail = str(raw.get("Action") or raw.get("status") or "").partition(": ")
        is_network = raw.get("Type") == "network"
        container = attributes.get("container", "") if is_network else actor.get("ID") or raw.get("id") or ""
        if not container or not action:
            return None
        code = str(attributes.get("exitCode") or attributes.get("containerExitCode") or "")
        return ContainerEvent(
            action="die" if action == "died" else action,
            container=str(container),
            name="" if is_network else str(attributes.get("name", "")).lstrip("/"),
            old_name=str(attributes.get("oldName", "")).lstrip("/"),
            signal=str(attributes.get("signal", "")),
            exit_code=int(code) if code.isdigit() else None,
            health=(detail or str(attributes.get("health_status", ""))) if action == "health_status" else "",
            time=int(raw.get("timeNano") or int(raw.get("time") or 0) * 10**9),
        )
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return None


def _client_arguments(url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The SDK's arguments for a DOCKER_HOST with the CLI's TLS variables, and nothing else of the environment.

    The URL is always passed on: without one, the SDK follows the CLI's current context to whatever host that names.
    """
    names = ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
    chosen = {name: environ[name] for name in names if environ.get(name)}
    try:
        return dict(kwargs_from_env(environment={"DOCKER_HOST": url, **chosen}))
    except DockerException as error:
        raise ConfigError("DOCKER_CERT_PATH", str(error)) from error


def _own_name(names: Sequence[str]) -> str:
    """The list gives a linked container's names in the linking ones, too: `/consumer/db` besides `/redis`."""
    return next((name.lstrip("/") for name in names if "/" not in name[1:]), "")


def _tls_arguments(url: str, tls: Tls) -> dict[str, Any]:
    """The SDK's arguments for TLS; raises ConfigError for files that are not there."""
    if tls.ca is None:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the operator knows
    pair = (tls.cert, tls.key) if tls.cert and tls.key else None
    try:
        return {"base_url": url, "tls": TLSConfig(client_cert=pair, ca_cert=tls.ca, verify=tls.ca is not None)}
    except DockerException as error:
        raise ConfigError("TLS", " ".join(str(error).split())) from error


def _subnets(network: Mapping[str, Any]) -> Iterator[IPNetwork]:
    for pool in (network.get("IPAM") or {}).get("Config") or ():
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_network(pool.get("Subnet", ""))


def _reason(error: BaseException) -> str:
    """The operating system's words at the bottom of an SDK exception's chain, else the exception's own."""
    seen: list[BaseException] = []
    current: object = error
    while isinstance(current, BaseException) and current not in seen:
        seen.append(current)
        if isinstance(current, OSError) and current.strerror:
            return current.strerror
        nested = [item for item in current.args if isinstance(item, BaseException)]
        reason = getattr(current, "reason", None)
        current = nested[-1] if nested else reason or current.__cause__ or current.__context__
    return " ".join(str(error).split())
