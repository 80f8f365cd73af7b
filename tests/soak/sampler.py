"""Looks at our processes every few seconds: memory, files, threads, tasks, processor time."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Self

from bench.machine import cpu_seconds
from tests.soak.levels import Sample
from tests.soak.ours import Ours
from tests.soak.scene import Scene

EVERY = 5.0  # seconds
TASKS = re.compile(r"^amb_tasks (\S+)", re.MULTILINE)


class Sampler:
    """`with Sampler(scene) as sampler: …`; `samples` by the process's name, a relay's workers under their own.

    `failure` is what ended it before its time: without samples everything would look level.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._over = threading.Event()
        self.failure: Exception | None = None
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            while not self._over.wait(EVERY):
                for name, program in list(self._scene.ours.items()):
                    self._look(name, program)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run was not watched
            self.failure = error

    def _look(self, name: str, program: Ours) -> None:
        pid = program.pid
        tasks = None if program.module == "simple_amb" or program.stopped else _tasks(program)
        self._sample(name, pid, tasks)
        for worker in program.workers():
            self._sample(f"{name}'s worker", worker, None)

    def _sample(self, name: str, pid: int, tasks: int | None) -> None:
        with contextlib.suppress(OSError, IndexError):  # it has ended meanwhile
            self.samples[name].append(sample(pid, tasks))


def _tasks(program: Ours) -> int | None:
    with contextlib.suppress(AssertionError, OSError, http.client.HTTPException):
        if found := TASKS.search(program.metrics()):
            return int(float(found[1]))
    return None


def sample(pid: int, tasks: int | None) -> Sample:
    """One look; raises OSError or IndexError if the process has ended."""
    process = Path(f"/proc/{pid}")
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    if "VmRSS" not in fields:
        raise ProcessLookupError(pid)
    files = sum(1 for _ in (process / "fd").iterdir())
    resident, threads = int(fields["VmRSS"].split()[0]), int(fields["Threads"])
    return Sample(time.monotonic(), pid, resident, files, threads, cpu_seconds(pid), tasks)
