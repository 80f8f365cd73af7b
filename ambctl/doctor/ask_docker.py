"""Ask this machine's Docker daemon."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ambcore.errors import DockerError
from ambcore.model import IPAddress
from ambcore.registration.extract import Host
from ambctl.doctor.judge_docker import Daemon
from ambnet.docker_options import DEFAULT_URL
from ambnet.dockerd import Engine
from ambnet.route import route_to


async def daemon(url: str) -> Daemon:
    """Whether it answers. Raises ConfigError for TLS files that DOCKER_CERT_PATH names and that are not there."""
    there, allowed, open_to_all = _socket(url)
    seen = Daemon(url, url == DEFAULT_URL, there, allowed, open_to_all)
    async with Engine(url) as engine:
        try:
            await engine.connect()
            info = await engine.info()
        except DockerError as error:
            return Daemon(url, seen.usual, there, allowed, open_to_all, error=str(error))
    return Daemon(url, seen.usual, there, allowed, open_to_all, info.version)


async def host(url: str, advertise: IPAddress | None, endpoints: tuple[str, ...]) -> Host:
    """What registrar would know of this machine; without a daemon, what can be known without it. Never raises."""
    route = None if advertise else await route_to(endpoints)()
    async with Engine(url) as engine:
        try:
            await engine.connect()
            bridges = await engine.bridges()
        except DockerError:
            bridges = {}
    every = tuple(network for subnets in bridges.values() for network in subnets)
    return Host(advertise, route, bridges.get("bridge", ()), every)


def _socket(url: str) -> tuple[bool, bool, bool]:
    """Whether it exists, we may use it, and everybody may; (True, True, False) for what is no file."""
    if not url.startswith("unix://"):
        return True, True, False
    path = Path(url.removeprefix("unix://"))
    try:
        mode = path.stat().st_mode
    except OSError:
        return False, False, False
    return True, os.access(path, os.R_OK | os.W_OK), bool(mode & stat.S_IWOTH)
