"""What the manual's first page sets up, done once by its own commands, on this machine's engine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.docs.shell import Shell, shell
from tests.hosts.console import sections
from tests.support.docker_engine import need_docker

ROOT = Path(__file__).parents[2]
START = sections((ROOT / "docs/start.md").read_text())
BUILT = "The programs"  # the images, which were built before the tests: scripts/images
END = "Away with it"
IMAGES = ("demo-etcd", "registrar", "dynproxy", "ambctl")
CONTAINERS = ("etcd", "registrar", "web-amb", "web-1", "web-2")  # as the page calls them
DOCUMENTED = "192.168.1.52"


@dataclass(frozen=True, slots=True)
class Started:
    """The machine as the page leaves it, before its last section: a shell there, and what each section took."""

    shell: Shell
    seconds: dict[str, float]


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60).stdout


def _need_room() -> None:
    """Fail with clear words where the page cannot be followed."""
    need_docker()
    if there := set(_docker("ps", "--all", "--format", "{{.Names}}").split()) & set(CONTAINERS):
        names = " ".join(sorted(there))
        pytest.fail(f"docs/start.md makes containers of these names: docker rm -f -v {names}", pytrace=False)
    wanted = {f"etcd-ambassadors/{name}" for name in IMAGES}
    if missing := wanted - set(_docker("images", "--format", "{{.Repository}}").split()):
        pytest.fail(f"images missing: {', '.join(sorted(missing))}; scripts/images builds them", pytrace=False)


@pytest.fixture(scope="package")
def started() -> Iterator[Started]:
    """docs/start.md, from its first command after the images to the last before it clears away."""
    _need_room()
    seconds: dict[str, float] = {}
    try:
        with shell(cwd=str(ROOT), replaced={}) as typed:
            for title, text in START.items():
                if title in (BUILT, END):
                    continue
                begun = time.monotonic()
                for block in blocks(text):
                    typed.perform(block)
                    if DOCUMENTED not in typed.replaced and "export HOST" in block.commands:
                        typed.replaced[DOCUMENTED] = typed.type("echo $HOST").strip()
                seconds[title] = time.monotonic() - begun
            yield Started(typed, seconds)
            for block in blocks(START[END]):
                typed.perform(block)
    finally:
        _docker("rm", "--force", "--volumes", *CONTAINERS)
