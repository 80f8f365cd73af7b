"""What the scripts say of a machine that lacks something: a half-done step is no success."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "basename", "cat", "dirname", "id", "mkdir", "python3", "sha256sum", "sleep", "tail", "timeout")


class Machine:
    """A checkout of its own, and a path with the plainest tools and what a test adds."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.programs = folder / "bin"
        self.programs.mkdir()
        shutil.copytree(ROOT / "scripts", self.checkout / "scripts")
        for name in ("requirements-dev.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout)
        for name in TOOLS:
            found = shutil.which(name)
            assert found, name
            (self.programs / name).symlink_to(found)

    def has(self, name: str, script: str, folder: Path | None = None) -> None:
        """A program of this name, by a shell script."""
        path = (folder or self.programs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts."""
        return subprocess.run(
            command,
            cwd=self.checkout,
            env=os.environ | {"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def complete(machine: Machine) -> Machine:
    """All of Debian's packages are there."""
    for name in ("docker", "dockerd", "docker-compose", "ip"):
        machine.has(name, "exit 0")
    return machine


def test_an_environment_whose_dependencies_failed_is_not_taken_for_current(complete: Machine) -> None:
    """Its second run succeeds where the first left what the project itself needs, and not what the lock has."""
    environment = complete.checkout / ".venv"
    complete.has("pip", 'case "$*" in *requirements-dev.lock*) echo no network; exit 1 ;; esac', environment / "bin")
    done = complete.run("scripts/setup", "test")
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert not (environment / ".made-from").exists()


def test_an_environment_of_an_interpreter_that_has_gone_is_made_anew(complete: Machine) -> None:
    environment = complete.checkout / ".venv"
    complete.has("pip", "echo No module named pip; exit 1", environment / "bin")
    pip = f"mkdir -p {environment}/bin && printf '#!/bin/sh\\n' >{environment}/bin/pip"
    complete.has("python3", f'case "$*" in "-m venv --clear .venv") {pip} ;; *) echo Python 9 ;; esac')
    done = complete.run("scripts/setup", "test")
    assert done.returncode == 0, done.stderr
    assert (environment / ".made-from").exists()


def test_a_minimal_system_is_given_authorities_along_with_docker(machine: Machine) -> None:
    """Without them nothing can be pulled, nor a base made that trusts whom this machine trusts."""
    machine.has("apt-get", "exit 0")
    machine.has("id", "echo 1000")
    done = machine.run("scripts/setup", "demo")
    assert done.returncode == 1
    assert {"docker.io", "ca-certificates"} <= set(done.stderr.split())


def test_demo_down_removes_nothing_without_an_engine_and_says_so(machine: Machine) -> None:
    """It may be down for a moment, or listen to root alone: what it has of the demo comes back with it."""
    machine.has("docker", "echo permission denied >&2; exit 1")
    done = machine.run("scripts/demo-down", "--images")
    assert done.returncode == 1
    assert "nothing was removed" in done.stderr


def test_demo_down_has_nothing_to_do_where_there_is_no_docker(machine: Machine) -> None:
    assert machine.run("scripts/demo-down", "--images").returncode == 0
