"""A real Prometheus, on loopback, with a folder of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from tests.support.ports import free_port
from tests.support.programs import fetch
from tests.support.waiting import eventually


class Prometheus:
    """`with Prometheus(folder, config):`, the configuration as a value; answers once the block begins."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        if shutil.which("prometheus") is None:
            pytest.fail("prometheus is not on the path: apt-get install prometheus", pytrace=False)
        self.folder = folder
        self.port = free_port()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        self._log = (self.folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            eventually(self._answers, 60, "Prometheus answers")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        self._log.close()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"Prometheus ended: {(self.folder / 'log').read_text()}")
        return fetch(f"http://127.0.0.1:{self.port}/-/ready")[0] == 200

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes now, as its API says."""
        found: list[dict[str, Any]] = self._ask("/api/v1/targets?state=active")["activeTargets"]
        return found

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series that a query finds now."""
        found = self._ask(f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def rules(self) -> set[str]:
        """The alerts that it knows."""
        groups = self._ask("/api/v1/rules")["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]}

    def _ask(self, path: str) -> Any:
        status, text = fetch(f"http://127.0.0.1:{self.port}{path}")
        assert status == 200, text
        return json.loads(text)["data"]
