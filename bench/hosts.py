"""The stage: client, proxy and server, each in a network namespace of its own, joined by two veth pairs.

    client 10.213.1.2 -- 10.213.1.1 proxy 10.213.2.1 -- 10.213.2.2 server

The proxy's namespace forwards IPv4, and client and server route through it: the way called "direct" passes the same
two veth pairs as every other, with no proxy and no connection tracking on it. Each visit gets fresh namespaces, so
that nobody inherits ports in TIME_WAIT, tracked connections or rules.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
CLIENT, FRONT, BACK, SERVER = "10.213.1.2", "10.213.1.1", "10.213.2.1", "10.213.2.2"
MANY = "10.77.0.0/16"  # every address of it is the server's
DEBIANS = "/usr/bin/python3"
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
SETTINGS = {  # of all three: who opens 15,000 connections a second must not run out of ports
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.ip_local_reserved_ports": "7000-7099",  # those of the hundred services
    "net.core.somaxconn": "8192",
    "net.ipv4.tcp_max_syn_backlog": "8192",
}
# Open files a process may have. 10,000 connections through one process are 20,000 and some; raising the limit takes a
# privilege that root in a container may lack, so the workloads make do with what there is.
_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
FILES = _HARD if 0 < _HARD < 200_000 else 200_000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


class CannotRunError(Exception):
    """A subject or a workload cannot run here; the text is the reason that the report gives."""


@dataclass
class Host:
    """One network namespace and the processes that were started in it."""

    name: str
    folder: Path
    _started: dict[subprocess.Popen[Any], Path] = field(default_factory=dict)

    @property
    def _prefix(self) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self.name}", "prlimit", f"--nofile={FILES}")

    def run(self, *command: str, seconds: float = 60) -> str:
        """What a command prints; raises CannotRunError with its complaint when it fails or does not end."""
        try:
            done = subprocess.run(  # noqa: S603
                [*self._prefix, *command], capture_output=True, text=True, check=False, timeout=seconds, cwd=ROOT
            )
        except subprocess.TimeoutExpired as slow:
            raise CannotRunError(f"{command[0]}: no end within {seconds:.0f} s") from slow
        if done.returncode:
            raise CannotRunError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def start(self, *command: str, talking: bool = False, **options: Any) -> subprocess.Popen[Any]:
        """Start a process group that ends with the scene, or with us.

        Its output goes to a file in `folder`; one that is `talking` has text pipes to us instead.
        `options` are Popen's.
        """
        path = self.folder / f"{self.name}-{len(self._started)}.log"
        with path.open("wb") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log}
            if talking:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = subprocess.Popen(  # noqa: S603
                ["setpriv", "--pdeathsig", "KILL", *self._prefix, *command],  # noqa: S607
                **{**pipes, "stderr": log, "cwd": ROOT, "start_new_session": True, **options},
            )
        self._started[process] = path
        return process

    def listen(self, process: subprocess.Popen[Any]) -> str:
        """The next line of one that is talking; its last complaint if it has ended."""
        line = str(process.stdout.readline()) if process.stdout else ""
        return line.strip() or self.said(process)

    def said(self, *processes: subprocess.Popen[Any]) -> str:
        """The last line that each has written, for an error's text."""
        texts = (self._started[process].read_text(errors="replace").strip() for process in processes)
        return " | ".join(text.splitlines()[-1] for text in texts if text)[-300:]

    def setting(self, name: str, value: str) -> None:
        """Set one of its own kernel settings, as in `net.ipv4.ip_forward`."""
        self.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", value, str(Path("/proc/sys", *name.split("."))))

    def inside(self, make: Callable[[], T]) -> T:
        """What `make` returns when called inside: a socket belongs to the namespace in which it was made."""
        made: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:  # the namespace is a thread's: one that ends takes the change along
            try:
                _enter(self.name)
                made.append(make())
            except BaseException as failure:  # noqa: BLE001 - raised again below, in the caller's thread
                failed.append(failure)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def connect(self, address: tuple[str, int], seconds: float = 5) -> socket.socket:
        """A connection made inside; raises OSError."""
        return self.inside(lambda: socket.create_connection(address, seconds))

    def end(self) -> None:
        """Kill what was started, whole process groups, and wait for it."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._started.clear()


@dataclass(frozen=True)
class Scene:
    """The three hosts of one visit, and a folder for what they write.

    `delicate` says that the server must not be knocked at: iperf3 serves one client at a time and takes a health check
    for it.
    """

    ROLES: ClassVar = ("client", "proxy", "server")

    client: Host
    proxy: Host
    server: Host
    folder: Path
    delicate: bool = False


@contextlib.contextmanager
def scene(*, delicate: bool = False) -> Iterator[Scene]:
    """Three fresh hosts; everything started on them is gone afterwards. Needs root."""
    tag = f"ambbench-{os.getpid()}-{next(_numbers)}"
    with tempfile.TemporaryDirectory(prefix="ambbench-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        client, proxy, server = (stack.enter_context(_host(f"{tag}-{role}", home)) for role in Scene.ROLES)
        made = Scene(client, proxy, server, home, delicate)
        _wire(made)
        yield made


@contextlib.contextmanager
def _host(name: str, folder: Path) -> Iterator[Host]:
    host = Host(name, folder)
    _ip("netns", "add", name)
    try:
        host.run("ip", "link", "set", "lo", "up")
        for setting, value in SETTINGS.items():
            host.setting(setting, value)
        yield host
    finally:
        host.end()
        _ip("netns", "delete", name)


def _wire(made: Scene) -> None:
    """Cables, addresses and routes, as the picture in this file's docstring shows them."""
    for left, right, left_address, right_address in (
        (made.client, made.proxy, CLIENT, FRONT),
        (made.proxy, made.server, BACK, SERVER),
    ):
        ends = (f"to-{right.name.rpartition('-')[2]}", f"to-{left.name.rpartition('-')[2]}")
        _ip("link", "add", ends[0], "netns", left.name, "type", "veth", "peer", ends[1], "netns", right.name)
        for host, end, address in ((left, ends[0], left_address), (right, ends[1], right_address)):
            host.run("ip", "address", "add", f"{address}/24", "dev", end)
            host.run("ip", "link", "set", end, "up")
    made.proxy.setting("net.ipv4.ip_forward", "1")
    made.client.run("ip", "route", "add", "default", "via", FRONT)
    made.server.run("ip", "route", "add", "default", "via", BACK)
    made.server.run("ip", "route", "add", "local", MANY, "dev", "lo")
    made.proxy.run("ip", "route", "add", MANY, "via", SERVER)


def _enter(namespace: str) -> None:
    """Move the calling thread into a network namespace; see setns(2)."""
    with Path(f"/run/netns/{namespace}").open() as opened:
        if _libc.setns(opened.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise CannotRunError(f"ip {' '.join(arguments)}: {done.stderr.strip()} (network namespaces need root)")


def wait_for(reached: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first true value of `reached()`; an OSError on the way counts as not yet. Raises CannotRunError."""
    deadline = time.monotonic() + seconds
    why = ""
    while time.monotonic() < deadline:
        try:
            if value := reached():
                return value
        except OSError as error:
            why = f": {error}"
        time.sleep(0.01)
    raise CannotRunError(f"not within {seconds:.0f} s: {what}{why}")


@functools.cache
def interpreter() -> tuple[str, ...]:
    """The Python that runs us: Debian's, which the images have too, if it is of this version, else the environment's.

    Debian builds its own with profile and link-time optimisation; one built without them is a tenth slower.
    """
    version = "import sys; print(*sys.version_info[:2])"
    with contextlib.suppress(OSError):
        done = subprocess.run([DEBIANS, "-c", version], capture_output=True, text=True, check=False)  # noqa: S603
        if done.stdout.split() == [str(part) for part in sys.version_info[:2]]:
            return ("env", f"PYTHONPATH={ROOT}:{sysconfig.get_path('purelib')}", DEBIANS)
    return (sys.executable,)


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of this repository."""
    return (*interpreter(), "-m", module, *arguments)
