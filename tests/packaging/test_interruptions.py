"""Ctrl-C while scripts/test or scripts/faults runs: the tests clear up undisturbed, and nothing else begins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
# Does on an interruption what pytest does: clears up for a while, and then says so.
PYTEST = f"""#!{sys.executable}
import os, signal, sys, time
from pathlib import Path

def note(what):
    with Path("noted").open("a") as notes:
        notes.write(f"{{os.environ['TEST_LANE']}} {{what}}\\n")

def interrupted(*_):
    note("interrupted")

signal.signal(signal.SIGINT, interrupted)
signal.alarm(20)  # that nobody tells it to end must not keep the test
note("begun")
signal.pause()
over = time.monotonic() + 0.5
while time.monotonic() < over:
    time.sleep(0.05)
    print("clearing up", flush=True)
note("cleared up")
sys.exit(2)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the scripts, with nothing to set up and a stand-in for pytest."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name, text in {
        "scripts/audit": "#!/bin/sh\n",
        ".venv/bin/pytest": PYTEST,
        ".venv/bin/python": "#!/bin/sh\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("script", "lanes", "begun"),
    [("test", "1", "1"), ("test", "2", "01"), ("faults", "1", "01")],
    ids=["one-lane", "two-lanes", "faults"],
)
def test_tests_are_interrupted_once_and_clear_up(checkout: Path, script: str, lanes: str, begun: str) -> None:
    """A terminal tells every process of the group in front."""
    notes = checkout / "noted"

    def noted() -> list[str]:
        return sorted(notes.read_text().splitlines()) if notes.exists() else []

    command = [checkout / "scripts" / script]
    with subprocess.Popen(
        command,
        env=os.environ | {"LANES": lanes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        eventually(lambda: len(noted()) == len(begun), 20, "the tests have begun")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) != 0
    assert noted() == sorted(f"{lane} {what}" for lane in begun for what in ("begun", "interrupted", "cleared up"))
