"""`etcd3`, a client that others wrote, in a process and an environment of its own.

What it writes we have to follow, what we write it has to read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "witness-requirements.lock"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etcd-ambassadors"


def witness_python() -> Path:
    """The interpreter of the witness's environment, which is made at the first use and kept for later runs."""
    made_from = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = CACHE / f"witness-{made_from}"
    if not home.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        # Made beside and moved when complete: another run may be making it, too.
        draft = tempfile.mkdtemp(dir=CACHE)
        subprocess.run([sys.executable, "-m", "venv", draft], check=True)
        pip = [f"{draft}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "--requirement", str(REQUIREMENTS)], check=True)
        try:
            Path(draft).rename(home)
        except OSError:  # the other run was first
            shutil.rmtree(draft)
    return home / "bin" / "python"


class Witness:
    """A context manager around one client of `endpoint` (an http URL)."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.removeprefix("http://")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [witness_python(), HERE / "witness_client.py", self._endpoint],
            # Without this, generated code of that age does not load at all.
            env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def put(self, key: str, value: str, ttl: int | None = None) -> None:
        """Write a key, under a lease of its own if `ttl` is given."""
        self._ask("put", key, value, ttl)

    def delete(self, key: str) -> bool:
        """Delete a key; whether it was there."""
        return bool(self._ask("delete", key))

    def get(self, prefix: str) -> dict[str, str]:
        """Everything under a prefix."""
        found: dict[str, str] = self._ask("get", prefix)
        return found

    def _ask(self, *command: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the witness has died over {command}"
        return json.loads(answer)
