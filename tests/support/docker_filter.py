"""The filter of docs/security.md before an engine, so that whoever asks it can only read."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs/security.md"


@contextlib.contextmanager
def docker_filter(folder: Path) -> Iterator[str]:
    """The page's filter before this machine's engine; the URL of its socket, in a folder with a short path."""
    (found,) = re.findall(r"^```haproxy\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    here = found.replace("/run/docker-read.sock", str(folder / "read.sock")).replace(" group docker-read", "")
    (folder / "haproxy.cfg").write_text(here)
    process = subprocess.Popen(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")])
    try:
        eventually((folder / "read.sock").is_socket, what="the filter listens")
        yield f"unix://{folder}/read.sock"
    finally:
        process.terminate()
        process.wait(10)
