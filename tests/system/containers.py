"""Containers of a test: started by name, gone with the block, asked by their address."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ("simple-amb", "ambassador")  # without dependencies
PROGRAMS = (*SMALL, "registrar", "dynproxy", "grand-ambassador", "ambctl")


def image(name: str) -> str:
    return f"etcd-ambassadors/{name}"


def docker(*arguments: str, seconds: float = 60) -> str:
    """Output of a docker command; an AssertionError with what it said if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout.strip()


@contextlib.contextmanager
def container(*arguments: str, name: str = "") -> Iterator[str]:
    """`docker run --detach` with these arguments; yields the container's name."""
    name = name or f"amb-test-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "--detach", "--name", name, *arguments)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def address(name: str) -> str:
    """A container's address on its (only) network."""
    return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)


def exists(name: str) -> bool:
    """Whether a container has this name, running or not."""
    return docker("ps", "--all", "--quiet", "--filter", f"name=^/{name}$") != ""


def logs(name: str) -> str:
    """What a container wrote, both streams."""
    done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
