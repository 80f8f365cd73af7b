"""A host with a Docker Engine of its own, and instances of services in containers there."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.soak import instance
from tests.soak.wire import NETWORK, Wire
from tests.support.docker_engine import IMAGE, Docker, OwnEngine
from tests.support.hosts import Host

TCP, UDP = 80, 53  # what instances listen at inside, and proxies outside
SERVICES = {"web": ("tcp", TCP), "dns": ("udp", UDP)}
PYTHON = str(Path(sys.executable).resolve())


@dataclass
class Running:
    """An instance in a container. `pid` is its first process, as this machine counts them."""

    name: str
    service: str
    pid: int
    id: str
    address: str


class DockerHost:
    """A host with an engine of its own and containers that serve; `running` are those that shall be registered."""

    def __init__(self, stack: ExitStack, wire: Wire, name: str, number: int, *options: str) -> None:
        self.name = name
        self.engine = stack.enter_context(OwnEngine(*options))
        self.host = Host(f"{NETWORK}.{number}", "")
        self.host.name = self.engine.namespace
        self.host.prefix = ("nsenter", f"--net=/run/netns/{self.engine.namespace}")
        wire.plug(self.host, number)
        self.docker = stack.enter_context(Docker(self.engine.url))
        self.keeps = "--live-restore" in options  # its containers, over its own restart
        self.running: dict[str, Running] = {}
        self._made = 0

    def add(self, service: str) -> Running:
        """A new instance."""
        self._made += 1
        protocol, port = SERVICES[service]
        name = f"{service}-{self.name}{self._made}"
        self.docker(
            *("run", "-d", "--name", name, "-p", f"{port}/{protocol}", "-e", f"SERVICE_NAME={service}"),
            *_python_inside(),
            *(IMAGE, PYTHON, "-E", "-S", "/soak/instance.py", name, protocol, str(port)),
        )
        return self.look(name, service)

    def look(self, name: str, service: str) -> Running:
        """Note where a running container can be reached; it may have been started anew."""
        protocol, port = SERVICES[service]
        found = self.docker.inspect(name)
        outside = found["NetworkSettings"]["Ports"][f"{port}/{protocol}"][0]["HostPort"]
        key = f"{self.name}:{name}:{port}" + (":udp" if protocol == "udp" else "")
        made = Running(name, service, found["State"]["Pid"], key, f"{self.host.ipv4}:{outside}")
        self.running[name] = made
        return made

    def start(self, *names: str) -> None:
        """Start containers that have ended."""
        self.docker("start", *names)
        for name in names:
            self.look(name, self.running[name].service)

    def remove(self, name: str) -> None:
        """Tell a container to end, and remove it."""
        del self.running[name]
        self.docker("stop", name)
        self.docker("rm", "-v", name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signal a container's process behind its engine's back."""
        os.kill(self.running[name].pid, number)

    def kill(self, name: str) -> tuple[float, float]:
        """SIGKILL behind its engine's back; the moments before it and after its end, which the kernel tells."""
        before = time.monotonic()
        process = os.pidfd_open(self.running[name].pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [])
        finally:
            os.close(process)
        return before, time.monotonic()

    def of(self, service: str) -> list[Running]:
        """Its instances of a service, by name."""
        return sorted((each for each in self.running.values() if each.service == service), key=lambda each: each.name)


def _python_inside() -> list[str]:
    """Options that give a container this machine's Python, for want of an image with one."""
    places = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64", sys.base_prefix: sys.base_prefix}
    places[str(Path(instance.__file__).parent)] = "/soak"
    mounts = [f"{outside}:{inside}:ro" for outside, inside in places.items() if Path(outside).exists()]
    return [part for mount in mounts for part in ("-v", mount)]
