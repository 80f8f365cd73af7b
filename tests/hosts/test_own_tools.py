"""What the tests here stand on: a wait that ends, and machines that are gone whatever came of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.load import Load
from tests.hosts.machine import machines

NOBODY_SERVES = "import time\nwhile True:\n    print(7, flush=True)\n    time.sleep(0.05)"


def test_a_load_that_nobody_serves_is_not_waited_for_without_end() -> None:
    with subprocess.Popen([sys.executable, "-c", NOBODY_SERVES], stdout=subprocess.PIPE, text=True) as process:
        try:
            with pytest.raises(AssertionError, match="200 of 200 not served"):
                Load(process).more(200, seconds=0.3)
        finally:
            process.kill()


def test_a_machine_that_was_made_and_does_not_start_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Docker leaves the container of such a `docker run`, as it does when the command is interrupted."""
    asked = tmp_path / "asked"
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\necho "$*" >>{asked}\n[ "$1" != run ]\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AssertionError, match="docker run"), machines("host-a", "host-b"):
        pass
    lines = asked.read_text().splitlines()
    (made,) = (line.split("--name ")[1].split()[0] for line in lines if line.startswith("run "))
    assert f"rm --force --volumes {made}" in lines
