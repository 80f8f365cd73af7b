"""Who is measured: each subject is a name and a function that puts it between client and server.

All forward TCP 6379 (redis) and 5201 (iperf3) to the server; those that can, UDP 5201. Their configurations are pinned
in `bench/peers/` or stand here as a command line.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.hosts import FILES, FRONT, ROOT, SERVER, CannotRunError, Host, Scene, python, wait_for
from bench.registry import URL, Registry, record

REDIS, IPERF, ADMIN = 6379, 5201, 9402
PEERS = ROOT / "bench" / "peers"
BULK_ONLY = "haproxy-64k"  # see the pinned configuration
DOCKER_PROXY = ("/usr/libexec/docker/docker-proxy", "/usr/sbin/docker-proxy", "/usr/bin/docker-proxy")
FEW = 5
WORKERS = 2  # of the many-worker forms: one a core of the machine that the figures come from


@dataclass(frozen=True)
class Running:
    """A subject at work: where clients find it, and `carriers`, the processes whose memory connections take."""

    address: str
    carriers: Callable[[], tuple[int, ...]]


@dataclass(frozen=True)
class Subject:
    """`rival` is the HAProxy that it is compared with; `udp` says whether it can forward datagrams.

    `rounds` bounds those that no aim speaks of. `idle_connections` are fewer for who takes a process (socat) or two
    pipes (Go's splice) for each.
    """

    name: str
    text: str
    start: Callable[[Scene], Running]
    rival: str = "haproxy-1"
    udp: bool = False
    rounds: int | None = None
    idle_connections: int = 10_000


def direct(scene: Scene) -> Running:
    """Nothing: the client routes through the proxy's namespace to the server."""
    del scene
    return Running(SERVER, tuple)


def dnat(scene: Scene) -> Running:
    """The least that the kernel needs for it."""
    scene.proxy.run(program("nft"), "-f", str(PEERS / "dnat.nft"))
    return Running(FRONT, tuple)


def haproxy(threads: int, buffer: int = 16384) -> Callable[[Scene], Running]:
    """HAProxy with so many threads and buffers of so many bytes."""

    def start(scene: Scene) -> Running:
        command = (program("haproxy"), "-db", "-f", str(PEERS / "haproxy.cfg"))
        return listening(scene.proxy, scene.proxy.start(*command, env=haproxy_environment(threads, buffer)))

    return start


def haproxy_environment(threads: int, buffer: int = 16384) -> dict[str, str]:
    """What the pinned configuration asks the environment for."""
    variables = {"THREADS": threads, "MAXCONN": FILES // 2 - 450, "BUFSIZE": buffer}
    return {**os.environ, **{name: str(value) for name, value in variables.items()}}


def nginx(scene: Scene) -> Running:
    """nginx's stream module, one worker."""
    command = (program("nginx"), "-p", str(scene.folder), "-c", str(PEERS / "nginx.conf"))
    return listening(scene.proxy, scene.proxy.start(*command))


def socat(scene: Scene) -> Running:
    """One socat a port; it forks for each connection."""
    ports = {
        port: (f"TCP-LISTEN:{port},bind={FRONT},fork,reuseaddr,backlog=8192,nodelay", f"TCP:{SERVER}:{port},nodelay")
        for port in (REDIS, IPERF)
    }
    return listening(scene.proxy, *(scene.proxy.start(program("socat"), *ends) for ends in ports.values()))


def docker_proxy(scene: Scene) -> Running:
    """Docker's own userland proxy, one process a port, as the engine starts it."""
    binary = next((path for path in DOCKER_PROXY if Path(path).exists()), None) or program("docker-proxy")
    processes = []
    for port in (REDIS, IPERF):
        ready, tell = os.pipe()  # it reports on descriptor 3, and ends when it cannot
        shell = ("sh", "-c", f'exec "$@" 3>/dev/fd/{tell}', "sh")  # `3>&12` is no shell's but bash's
        command = (
            *(binary, "-proto", "tcp", "-host-ip", FRONT, "-host-port", str(port)),
            *("-container-ip", SERVER, "-container-port", str(port)),
        )
        processes.append(scene.proxy.start(*shell, *command, pass_fds=(tell,)))
        os.close(tell)
        with os.fdopen(ready) as report:
            if report.readline().strip() != "0":
                raise CannotRunError(f"docker-proxy does not start: {scene.proxy.said(*processes)}")
    return listening(scene.proxy, *processes)


def dynproxy(plane: str, workers: int = 1) -> Callable[[Scene], Running]:
    """dynproxy with one instance of each service in a real etcd beside it."""

    def start(scene: Scene) -> Running:
        registry = Registry(scene.proxy)
        registry.put(record("redis", "one", SERVER, REDIS))
        registry.put(record("iperf", "one", SERVER, IPERF))
        registry.put(record("iperf", "one:udp", SERVER, IPERF, protocol="udp"))
        options = ("--check-interval", "0") if scene.delicate else ()
        started = Dynproxy.start(scene, plane, {"redis": REDIS, "iperf": IPERF}, workers=workers, options=options)
        return started.running

    return start


@dataclass(frozen=True)
class Dynproxy:
    """A dynproxy that runs in the proxy's namespace."""

    host: Host
    process: subprocess.Popen[Any]

    @classmethod
    def start(
        cls,
        scene: Scene,
        plane: str,
        services: Mapping[str, int],
        *,
        workers: int = 1,
        options: Iterable[str] = (),
        module: str = "dynproxy",
        talking: bool = False,
        seconds: float = 20,
    ) -> Dynproxy:
        """Start it for services (name to port) and wait until it has read the registry. Raises CannotRunError.

        `module` may be another program that wraps it, which may be `talking` to us.
        """
        fronts = [f"{service}:{port}" for service, port in services.items()]
        command = (
            *python(module, "--etcd", URL, "--plane", plane, "--workers", str(workers)),
            *("--admin", f"127.0.0.1:{ADMIN}", "--log-level", "warning", *options, *fronts),
        )
        process = scene.proxy.start(*command, talking=talking)
        made = cls(scene.proxy, process)

        def ready() -> bool:
            if process.poll() is not None:
                raise CannotRunError(f"dynproxy --plane {plane} ended: {scene.proxy.said(process)}")
            return bool(made.status()["ready"])

        wait_for(ready, seconds, f"dynproxy --plane {plane} is ready")
        serving = made.status()["plane"]
        if serving["name"] != plane:
            raise CannotRunError(f"plane {plane} was asked for, {serving['name']} serves: {serving['why']}")
        return made

    def status(self) -> dict[str, Any]:
        """Its status document; raises OSError."""
        document: dict[str, Any] = json.loads(self.ask("/status.json"))
        return document

    def ask(self, path: str) -> str:
        """What its admin server answers; raises OSError."""
        with self.host.connect(("127.0.0.1", ADMIN)) as connection:
            quoted = urllib.parse.quote(path)
            connection.sendall(f"GET {quoted} HTTP/1.0\r\nHost: bench\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: connection.recv(1 << 16), b"")).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise OSError(f"{path}: {head[:80]!r}")
        return body.decode()

    @property
    def pid(self) -> int:
        """The control process, which leads the group of all of them."""
        return self.process.pid

    @property
    def workers(self) -> tuple[int, ...]:
        """The relay's processes; what else the control process starts, such as nft, ends at once."""
        return tuple(pid for pid in children(self.pid) if b"ambnet.relay.worker" in _command(pid))

    @property
    def running(self) -> Running:
        """As a subject: its workers carry, the control process does not."""
        return Running(FRONT, lambda: self.workers)


def listening(host: Host, *processes: subprocess.Popen[Any]) -> Running:
    """Wait until both ports answer behind `processes`; these and their children carry. Raises CannotRunError."""

    def ready() -> bool:
        if any(process.poll() is not None for process in processes):
            raise CannotRunError(f"it ended: {host.said(*processes)}")
        return all(accepts(host, port) for port in (REDIS, IPERF))

    wait_for(ready, 10, "both ports answer")
    pids = [process.pid for process in processes]
    return Running(FRONT, lambda: (*pids, *(child for pid in pids for child in children(pid))))


def accepts(host: Host, port: int) -> bool:
    """Whether somebody listens; raises OSError when not."""
    with host.connect((FRONT, port), 1) as connection:
        connection.shutdown(socket.SHUT_RDWR)
    return True


def children(pid: int) -> tuple[int, ...]:
    """The direct children of a process."""
    return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _command(pid: int) -> bytes:
    """The command line of a process, empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def program(name: str) -> str:
    """Where a program is, Debian's sbin folders included; raises CannotRunError."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise CannotRunError(f"{name} is not installed")
    return found


SUBJECTS: Mapping[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject("direct", "no proxy: routed through the proxy's namespace", direct, udp=True),
        Subject("dnat", "two bare nftables rules: what any forwarding in the kernel pays", dnat, udp=True),
        Subject("kernel", "dynproxy --plane kernel", dynproxy("kernel"), udp=True),
        Subject("relay-1", "dynproxy --plane relay --workers 1", dynproxy("relay", 1), udp=True),
        Subject(
            *("relay-2", f"dynproxy --plane relay --workers {WORKERS}", dynproxy("relay", WORKERS)),
            rival="haproxy-2",
            rounds=FEW,
        ),
        Subject("haproxy-1", "HAProxy, 1 thread", haproxy(1)),
        Subject("haproxy-2", f"HAProxy, {WORKERS} threads", haproxy(WORKERS), "haproxy-2", rounds=FEW),
        Subject(BULK_ONLY, "HAProxy, 1 thread, buffers of 64 KiB", haproxy(1, 65536), rounds=FEW),
        Subject("nginx", "nginx stream, 1 worker", nginx, udp=True, rounds=FEW),
        Subject("docker-proxy", "Docker's userland proxy", docker_proxy, rounds=FEW, idle_connections=3_000),
        Subject("socat", "socat, a process a connection", socat, rounds=FEW, idle_connections=1_000),
    )
}
