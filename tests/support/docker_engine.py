"""Real Docker engines for tests: the machine's own, and throw-away ones that may be killed.

    with Docker() as docker:                      # the machine's engine; removes the containers it made
        name = docker.run("-p", "80")

The containers run a tiny image made of the machine's static busybox, so nothing has to be pulled.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.waiting import eventually

IMAGE = "amb-test/tiny"
HOST_SOCKET = "unix:///var/run/docker.sock"
APPLETS = ("sh", "sleep", "kill", "httpd", "nc", "cat", "true", "touch", "test", "rm")
START_SECONDS = 40  # a second engine on two busy cores; usual is two seconds

_numbers = itertools.count(1)


def unique(kind: str = "c") -> str:
    """A name that no other test and no other run on this machine uses; whoever cleans up knows it by `amb-t-`."""
    return f"amb-t-{kind}-{os.getpid()}-{next(_numbers)}"


def need_docker() -> None:
    """Fail with clear words where no engine answers."""
    if shutil.which("docker") is None:
        pytest.fail("docker is not on the path: apt-get install docker.io", pytrace=False)
    try:
        answer = subprocess.run(
            ["docker", "-H", HOST_SOCKET, "version"], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail("the Docker engine does not answer", pytrace=False)
    if answer.returncode != 0:
        pytest.fail(f"no Docker engine answers at {HOST_SOCKET}: {answer.stderr.strip()}", pytrace=False)


def _busybox() -> Path:
    for place in ("/bin/busybox", "/usr/bin/busybox"):
        if Path(place).exists():
            return Path(place)
    pytest.fail("busybox is missing: apt-get install busybox-static", pytrace=False)


def _image_tar() -> bytes:
    """A root file system: busybox under the names of its applets, and little else."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ("bin", "tmp", "www", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(_busybox(), "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return packed.getvalue()


class Docker:
    """A client of one engine that removes what it made."""

    def __init__(self, url: str = HOST_SOCKET) -> None:
        self.url = url
        self._made: list[str] = []

    def __enter__(self) -> Self:
        if not self("images", "-q", IMAGE):
            self("import", "-", IMAGE, stdin=_image_tar())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made:
            with contextlib.suppress(AssertionError):  # those that a test removed itself
                self("rm", "-f", "-v", *self._made)

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """What the docker client prints; raises AssertionError with its complaint."""
        done = subprocess.run(
            ["docker", "-H", self.url, *arguments], input=stdin, capture_output=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode().strip()

    def name(self, kind: str = "c") -> str:
        """A name for a container, which is removed at the end whoever makes it."""
        name = unique(kind)
        self._made.append(name)
        return name

    def run(self, *options: str, name: str | None = None, command: tuple[str, ...] = ("sleep", "86400")) -> str:
        """Start a container that ends at once when told to, unless it is given another command; returns its name."""
        name = name or self.name()
        self("run", "-d", "--init", "--name", name, *options, IMAGE, *command)
        return name

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine says of a container."""
        answer: list[dict[str, Any]] = json.loads(self("inspect", name))
        return answer[0]

    def port(self, name: str, port: int = 80) -> int:
        """Where a port of a container is published (the first binding)."""
        bindings = self.inspect(name)["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return int(bindings[0]["HostPort"])


class OwnEngine:
    """A dockerd of our own in a network namespace of its own, so that its rules and ports meet nobody else's.

    `url` is its socket, `namespace` the name of its network namespace.
    """

    def __init__(self, *options: str) -> None:
        # Not pytest's own long folders: the path of a socket has 107 characters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="amb-t-"))
        self.url = f"unix://{self._folder}/docker.sock"
        self._options = options
        self.namespace = unique("net")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            pytest.fail("an engine of one's own needs root", pytrace=False)
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "lo", "up"], check=True)
        try:
            self.start()
        except BaseException:
            self._clear_away()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._process is None:
                self.start()
            docker = Docker(self.url)
            if left := docker("ps", "-aq").split():
                docker("rm", "-f", "-v", *left)
        finally:
            self.stop()
            self._clear_away()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            *("nsenter", f"--net=/run/netns/{self.namespace}"),
            *("setpriv", "--pdeathsig", "TERM"),
            *("dockerd", "-H", self.url, "--data-root", str(self._folder / "data")),
            *("--exec-root", str(self._folder / "exec"), "--pidfile", str(self._folder / "pid"), *self._options),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        eventually(self._answers, START_SECONDS, "the test's own dockerd answers")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"dockerd ended: {(self._folder / 'log').read_text()[-2000:]}")
        ping = ["docker", "-H", self.url, "version"]
        return subprocess.run(ping, capture_output=True, timeout=30, check=False).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until it has gone. Stopping a stopped one is fine."""
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.wait(60)
        self._process = None
        containerd = self._folder / "exec" / "containerd" / "containerd.pid"
        if number is signal.SIGKILL:
            pid = int(containerd.read_text())
            # Its containerd dies with it, but stays a zombie where PID 1 does not reap, and the next dockerd would
            # take that for a living one.
            eventually(lambda: str(self._folder) not in _command_line(pid), what="containerd ends with its dockerd")
            containerd.unlink()

    def _clear_away(self) -> None:
        """Whatever a test's failure left: processes that bear our folder's name in their arguments, mounts, files."""
        for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            if str(self._folder) in _command_line(pid) and pid != os.getpid():
                for each in (*_children(pid), pid):  # a shim's child is a container's first process
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if mount.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "-l", mount], check=False)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def _command_line(pid: int) -> str:
    """The arguments of a process; empty for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@pytest.fixture
def docker() -> Iterator[Docker]:
    """The machine's engine; the containers a test makes with it are removed after it."""
    need_docker()
    with Docker() as engine:
        yield engine
