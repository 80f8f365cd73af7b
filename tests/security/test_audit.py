"""scripts/audit: what it makes of pip-audit's answers; ignorance is no pass."""

from __future__ import annotations

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/audit"
HARMLESS = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
UNKNOWN = {"name": "docker", "skip_reason": "could not be audited"}
ILL = {"name": "urllib3", "version": "2.0.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.0.1"]}]}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader = SourceFileLoader("audit", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"dependencies": [HARMLESS]}, (0, "audited: 1 packages of requirements.lock, no vulnerability known")),
        ({"dependencies": [HARMLESS, UNKNOWN]}, (3, "NOT AUDITED: 1 packages of requirements.lock: could not be")),
        (
            {"dependencies": [ILL, UNKNOWN]},
            (1, "VULNERABLE: urllib3 2.0.0 in requirements.lock: CVE-2026-1, mended in 2.0.1"),
        ),
        ({"dependencies": []}, (3, "NOT AUDITED: anything of requirements.lock: it names no package")),
        ("no JSON at all", (3, "NOT AUDITED: anything of requirements.lock: the network is unreachable")),
    ],
)
def test_only_an_answer_about_every_package_is_a_pass(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Any, verdict: tuple[int, str]
) -> None:
    tool = tmp_path / "pip-audit"
    printed = answer if isinstance(answer, str) else json.dumps(answer)
    tool.write_text(f"#!/bin/sh\necho 'the network is unreachable' >&2\ncat <<'END'\n{printed}\nEND\n")
    tool.chmod(0o755)
    code, said = verdict
    assert script.audit(tool, "requirements.lock") == code
    assert said in capsys.readouterr().out


def test_every_lock_file_is_asked_about(script: ModuleType) -> None:
    here = {path.name for path in SCRIPT.parents[1].glob("requirements*.lock")}
    assert {*script.LOCKS, script.OWN.name} == here
