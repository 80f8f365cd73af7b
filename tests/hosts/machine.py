"""A machine of its own: a container that boots systemd and has its own Docker Engine."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
IMAGE = "etcd-ambassadors/test-host"

# `--privileged` says the same but is refused where CAP_SYS_RESOURCE is missing, which nothing here needs.
BOOT = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined", "--cgroupns", "host"),
    *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--tmpfs", "/run", "--tmpfs", "/tmp"),
    *("--env", "container=docker", "--volume", "/var/lib/docker"),
)


def docker(*arguments: str, given: bytes | None = None, seconds: float = 120) -> str:
    """Output of a docker command on the outer engine; a failure shows what it said."""
    done = subprocess.run(["docker", *arguments], input=given, capture_output=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {(done.stderr or done.stdout).decode(errors='replace')}")
    return done.stdout.decode(errors="replace").strip()


def build() -> None:
    """The machines' image; layers that did not change come from the cache."""
    docker("build", "--quiet", "--file", "tests/hosts/Dockerfile", "--tag", IMAGE, str(ROOT), seconds=400)


class Machine:
    """One booted machine. `run` is a root shell's command there."""

    def __init__(self, name: str, container: str) -> None:
        self.name = name
        self.container = container
        self.address = docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container
        )

    def run(self, *command: str, seconds: float = 60) -> str:
        """Output of a command that must succeed."""
        return docker("exec", self.container, *command, seconds=seconds)

    def succeeds(self, *command: str) -> bool:
        """Whether a command ends with 0."""
        return (
            subprocess.run(["docker", "exec", self.container, *command], capture_output=True, check=False).returncode
            == 0
        )

    def write(self, path: str, text: str) -> None:
        """A file there, its folders made as needed."""
        script = 'mkdir -p "$(dirname "$0")" && cat >"$0"'
        docker("exec", "--interactive", self.container, "sh", "-c", script, path, given=text.encode())

    def load(self, *images: str) -> None:
        """Bring images of the outer engine to the engine there."""
        saved = subprocess.run(["docker", "save", *images], capture_output=True, check=True).stdout
        docker("exec", "--interactive", self.container, "docker", "load", "--quiet", given=saved)

    def remove_containers(self) -> None:
        """Every container of the engine there, running or not."""
        self.run("sh", "-c", "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes")

    def start(self, *units: str) -> None:
        """systemctl start, and what the journal says if it fails."""
        try:
            self.run("systemctl", "start", *units)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.journal(*units)}") from None

    def stop(self, *units: str) -> None:
        self.run("systemctl", "stop", *units)

    def journal(self, *units: str) -> str:
        selected = [f"--unit={unit}" for unit in units]
        return self.run("journalctl", "--no-pager", "--output=cat", "--lines=60", *selected)

    def show(self, unit: str, value: str) -> str:
        """A property of a unit, such as MainPID or Result."""
        return self.run("systemctl", "show", "--value", f"--property={value}", unit)

    def install_units(self, folder: str) -> None:
        """The repository's unit files of a folder, as an administrator copies them."""
        for file in sorted((ROOT / "units" / folder).glob("*.service")):
            self.write(f"/etc/systemd/system/{file.name}", file.read_text())
        self.run("systemctl", "daemon-reload")


@contextlib.contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """Boot machines on a network of their own; all of it is gone afterwards, Docker volumes included."""
    build()
    run = uuid.uuid4().hex[:8]
    network = f"amb-hosts-{run}"
    containers = [f"amb-{name}-{run}" for name in names]
    try:
        docker("network", "create", network)
        for name, container in zip(names, containers, strict=True):
            docker("run", "--detach", "--name", container, "--hostname", name, "--network", network, *BOOT, IMAGE)
        booted = [Machine(name, container) for name, container in zip(names, containers, strict=True)]
        for machine in booted:
            eventually(lambda: _is_up(machine), 60, f"{machine.name} boots")  # noqa: B023 - looked at here only
        yield booted
    finally:
        for container in containers:
            subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", network], capture_output=True, check=False)


def _is_up(machine: Machine) -> bool:
    """systemd has done all that it wanted to; nothing failed on the way."""
    return machine.succeeds("systemctl", "is-system-running", "--quiet")
