"""A real etcd cluster on loopback, whose members can be killed, suspended and started again.

    with EtcdCluster(folder, size=3) as cluster:
        cluster.etcdctl("put", "/a", "1")
        cluster.members[0].kill()

The binaries are `etcd` and `etcdctl` on the path, or those that AMB_TEST_ETCD and AMB_TEST_ETCDCTL name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import free_port
from tests.support.tls import Authority, Pair
from tests.support.waiting import eventually

# "Dies with its parent" means the thread that started it: this one lives as long as the test run.
_STARTER = ThreadPoolExecutor(1, "etcd-starter")
START_SECONDS = 30  # two busy cores; usual is under one second


@dataclass(frozen=True)
class Tls:
    """How a cluster's client side is secured. With `mutual`, clients have to show a certificate of `authority`."""

    authority: Authority
    server: Pair
    mutual: bool = False


@dataclass(frozen=True)
class Place:
    """Where a member lives: its address, and a command that becomes its process there, as `nsenter` does."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


@dataclass
class Member:
    """One etcd process. Its data folder outlives the process, so that `start` continues where it was."""

    name: str
    command: Sequence[str]
    url: str
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    suspended: bool = False

    def start(self) -> None:
        """Start the process; does not wait until it serves."""
        with (self.folder / "log").open("ab") as log:
            # The kernel ends it with us, so that an aborted test run leaves nothing behind.
            command = ["setpriv", "--pdeathsig", "KILL", *self.command]
            self.process = _STARTER.submit(lambda: subprocess.Popen(command, stdout=log, stderr=log)).result()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Killing a dead member is fine."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process, self.suspended = None, False

    def suspend(self) -> None:
        """SIGSTOP: its connections stay open and mute."""
        self._signal(signal.SIGSTOP)
        self.suspended = True

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.suspended = False

    def log_tail(self) -> str:
        """The end of its log, for a failure's message."""
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} does not run"
        self.process.send_signal(number)


class EtcdCluster:
    """`size` members with fresh data under `folder`; a context manager.

    `heartbeat` and `election` are milliseconds. The defaults elect fast; etcd's own are 100 and 1000, which tests of
    lease times should use. `options` go to every member as they are. `binaries` is a folder with another etcd. `places`
    are where the members live, instead of `size` of them on loopback.
    """

    def __init__(
        self,
        folder: Path,
        size: int = 3,
        *,
        tls: Tls | None = None,
        heartbeat: int = 50,
        election: int = 500,
        options: Sequence[str] = (),
        binaries: Path | None = None,
        places: Sequence[Place] = (),
    ) -> None:
        self.tls = tls
        places = places or [Place()] * size
        self._etcdctl = str(binaries / "etcdctl") if binaries else os.environ.get("AMB_TEST_ETCDCTL") or "etcdctl"
        self.environment: dict[str, str] = {}  # for etcdctl, for example ETCDCTL_USER
        scheme = "https" if tls else "http"
        urls = [(f"{scheme}://{at.address}:{free_port()}", f"http://{at.address}:{free_port()}") for at in places]
        peers = ",".join(f"m{index}={peer}" for index, (_, peer) in enumerate(urls))
        self.members: list[Member] = []
        for index, (client, peer) in enumerate(urls):
            home = folder / f"m{index}"
            home.mkdir(parents=True)
            command = [
                *places[index].prefix,
                str(binaries / "etcd") if binaries else os.environ.get("AMB_TEST_ETCD") or "etcd",
                *("--name", f"m{index}", "--data-dir", str(home / "data"), "--logger", "zap"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", peers, "--initial-cluster-token", str(folder)),
                *("--heartbeat-interval", str(heartbeat), "--election-timeout", str(election)),
                *self._tls_options(),
                *options,
            ]
            self.members.append(Member(f"m{index}", command, client, home))

    def _tls_options(self) -> list[str]:
        if not self.tls:
            return []
        files = ["--cert-file", str(self.tls.server.cert), "--key-file", str(self.tls.server.key)]
        if self.tls.mutual:
            files += ["--client-cert-auth", "--trusted-ca-file", str(self.tls.authority.ca)]
        return files

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every member's client URL."""
        return tuple(member.url for member in self.members)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the members that do not run, and wait until all serve."""
        for member in self.members:
            if member.process is None:
                member.start()
        self.wait_healthy()

    def stop(self) -> None:
        """Kill every member."""
        for member in self.members:
            member.kill()

    def wait_healthy(self, *members: Member) -> None:
        """Until these members (default: all that run) answer a linearizable read."""
        waited = members or [member for member in self.members if member.process]
        for member in waited:
            eventually(lambda member=member: self.healthy(member), START_SECONDS, f"{member.name} serves")  # type: ignore[misc]

    def healthy(self, member: Member) -> bool:
        """Whether it answers a linearizable read within 5 s. Raises RuntimeError when its process has ended."""
        assert member.process is not None
        if member.process.poll() is not None:
            raise RuntimeError(f"{member.name} ended with {member.process.returncode}: {member.log_tail()}")
        return self._run(["endpoint", "health"], endpoints=[member.url], timeout=5).returncode == 0

    def member_of(self, url: str) -> Member:
        """The member that serves this client URL."""
        return next(member for member in self.members if member.url == url)

    def leader(self) -> Member:
        """The member that leads now."""
        for member in self.members:
            if member.process is None or member.suspended:
                continue
            answer = self._run(["endpoint", "status", "-w", "json"], endpoints=[member.url], timeout=5)
            status = json.loads(answer.stdout)[0]["Status"] if answer.returncode == 0 else {}
            if status and status["leader"] == status["header"]["member_id"]:
                return member
        raise AssertionError("no member leads")

    def etcdctl(self, *arguments: str, stdin: str | None = None) -> str:
        """What etcdctl prints; raises AssertionError with its complaint when it fails."""
        urls = [member.url for member in self.members if member.process is not None and not member.suspended]
        done = self._run(list(arguments), endpoints=urls, stdin=stdin, timeout=30)
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def etcdctl_json(self, *arguments: str) -> dict[str, Any]:
        """What etcdctl prints with `-w json`."""
        loaded: dict[str, Any] = json.loads(self.etcdctl(*arguments, "-w", "json"))
        return loaded

    def etcdctl_environment(self, endpoints: Sequence[str]) -> Mapping[str, str]:
        """The environment in which a plain `etcdctl` talks to this cluster."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")},
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": ",".join(endpoints),
            **self.environment,
        }
        if self.tls:
            environment["ETCDCTL_CACERT"] = str(self.tls.authority.ca)
            if self.tls.mutual:
                environment["ETCDCTL_CERT"] = str(self.tls.server.cert)
                environment["ETCDCTL_KEY"] = str(self.tls.server.key)
        return environment

    def _run(
        self, arguments: list[str], *, endpoints: Sequence[str], timeout: float, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [self._etcdctl, f"--command-timeout={timeout:.0f}s", *arguments]
        return subprocess.run(
            command,
            env=self.etcdctl_environment(endpoints),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout + 10,
        )
