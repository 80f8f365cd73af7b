"""What is built installs where nothing of ours is, from the lock, and runs."""

from __future__ import annotations

import contextlib
import email
import os
import socket
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from ambcore.version import VERSION
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PROGRAMS = ("registrar", "simple-amb", "dynproxy", "grand-ambassador", "ambctl")
PACKAGES = ("ambcore", "ambnet", "registrar", "dynproxy", "simple_amb", "ambctl")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def pip(programs: Path, *command: str | Path) -> None:
    """Our own pip at work on another environment: that one needs none."""
    run(sys.executable, "-m", "pip", "--python", programs / "python", *command)


@dataclass(frozen=True)
class Built:
    source: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Made from what git knows, as a release is: the wheel from the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    tracked = run("git", "ls-files", "-z", cwd=ROOT).rstrip("\0").split("\0")
    for name in tracked:
        if (ROOT / name).is_file():  # not what is being deleted just now
            copy = folder / "tree" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "tree")
    (source,), (wheel,) = folder.glob("dist/*.tar.gz"), folder.glob("dist/*.whl")
    return Built(source, wheel)


@pytest.fixture(scope="module")
def clean(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a virtual environment that holds the lock and our wheel, and nothing else."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, symlinks=True)
    install = ["install", "--quiet", "--no-compile"]
    pip(home / "bin", *install, "--require-hashes", "--requirement", ROOT / "requirements.lock")
    pip(home / "bin", *install, "--no-deps", built.wheel)
    return home / "bin"


def test_both_say_the_one_version(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = wheel.read(f"etcd_ambassadors-{VERSION}.dist-info/METADATA").decode()
    assert email.message_from_string(metadata)["Version"] == VERSION
    assert built.source.name == f"etcd_ambassadors-{VERSION}.tar.gz"


def test_every_tracked_file_of_our_packages_is_in_them_and_nothing_else_is(built: Built) -> None:
    """A package or a template that the build forgets is missed at the first request only."""
    tracked = {name for name in run("git", "ls-files", *PACKAGES, cwd=ROOT).split("\n") if (ROOT / name).is_file()}
    with zipfile.ZipFile(built.wheel) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == tracked
    with tarfile.open(built.source) as source:
        assert tracked <= {name.partition("/")[2] for name in source.getnames()}


def test_the_dependencies_are_those_that_the_lock_has(clean: Path) -> None:
    """`pip check` knows what our metadata asks for."""
    pip(clean, "check")


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_is_there_and_explains_itself(clean: Path, program: str, tmp_path: Path) -> None:
    assert "usage:" in run(clean / program, "--help", cwd=tmp_path)


def test_an_installed_ambassador_forwards(clean: Path, tmp_path: Path) -> None:
    """From another folder than ours, with nothing of ours on the path."""
    port = free_port()

    def answers() -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 5) as client,
            client.makefile("rwb", buffering=0) as lines,
        ):
            lines.write(b"who are you?\n")
            return lines.readline() == b"there\n"
        return False

    with NamedServer("there") as server:
        command = [str(clean / "simple-amb"), "--listen", f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"]
        with subprocess.Popen(command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}) as process:
            try:
                eventually(answers)
            finally:
                process.terminate()
