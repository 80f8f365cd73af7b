"""The layers: programs use ambnet, ambnet uses ambcore, the core touches nothing; and small programs stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = ("registrar", "dynproxy", "simple_amb", "ambctl")
LAYERS = {"ambcore": 0, "ambnet": 1} | dict.fromkeys(PROGRAMS, 2)
PURE = (
    "ambctl/doctor/advisories.py",
    "ambctl/doctor/judge_access.py",
    "ambctl/doctor/judge_docker.py",
    "ambctl/doctor/judge_etcd.py",
    "ambctl/doctor/judge_machine.py",
    "ambctl/doctor/judge_programs.py",
    "ambctl/doctor/judge_proxies.py",
    "ambctl/doctor/judge_records.py",
    "ambctl/doctor/judge_tls.py",
    "ambctl/doctor/levels.py",
    "ambctl/doctor/names.py",
    "ambctl/doctor/summary.py",
    "ambnet/page/documents.py",
    "ambnet/page/essence.py",
    "ambnet/page/fragments.py",
    "ambnet/page/gather.py",
    "ambnet/page/history.py",
    "ambnet/page/model.py",
    "ambnet/page/picture.py",
    "ambnet/page/plots.py",
    "ambnet/page/wording.py",
    "dynproxy/explain.py",
    "dynproxy/exposed.py",
    "registrar/answers.py",
    "registrar/compat.py",
    "registrar/explain.py",
    "registrar/host_plan.py",
    "registrar/reconcile.py",
    "ambctl/names.py",
    "ambctl/paper.py",
    "ambctl/explain/facts.py",
    "ambctl/explain/judge.py",
    "ambctl/explain/subject.py",
    "ambctl/explain/text.py",
    "ambctl/explain/views.py",
    "ambctl/reach.py",
    "ambctl/render.py",
    "ambctl/targets.py",
    "ambctl/view.py",
    "dynproxy/consumers.py",
    "simple_amb/wiring.py",
)

# What the core may use of the standard library: values and calculations. No clock, no chance, no I/O, no waiting.
CALCULATION = {
    *(
        "__future__",
        "abc",
        "array",
        "bisect",
        "collections",
        "contextlib",
        "dataclasses",
        "difflib",
        "enum",
        "functools",
        "heapq",
        "hashlib",
    ),
    *("ipaddress", "itertools", "json", "math", "operator", "re", "string", "struct", "types", "typing", "zlib"),
}

# Modules that hold values and acts alike; the acts are named.
VALUES = {"datetime", "signal"}
ACTS = {"datetime.now", "datetime.today", "datetime.utcnow", "date.today"} | {
    f"signal.{name}" for name in ("signal", "alarm", "pause", "raise_signal", "set_wakeup_fd", "setitimer", "sigwait")
}

# What processes with a budget of 20 MiB do without, directly and through others.
HEAVY = {"asyncio", "grpc", "google", "aetcd", "aiohttp", "docker", "prometheus_client", "ssl", "http", "requests"}
SMALL = ("ambcore.picker", "ambnet.log", "ambnet.notify", "ambnet.options", "ambnet.relay", "simple_amb")


def files(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


def imports(path: Path) -> Iterator[str]:
    """The dotted name of every module that a file imports anywhere in it; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    """The top packages that a file imports."""
    return {name.partition(".")[0] for name in imports(path)}


def modules(package: str) -> list[str]:
    """Every module below a package or the module itself, `__main__` left out."""
    path = ROOT / package.replace(".", "/")
    if not path.is_dir():
        return [package]
    paths = [each.relative_to(ROOT).with_suffix("") for each in sorted(path.rglob("*.py")) if each.stem != "__main__"]
    return [".".join(each.parts).removesuffix(".__init__") for each in paths]


@pytest.mark.parametrize("path", files(*LAYERS), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only_and_programs_never_import_one_another(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    for top in tops(path) & set(LAYERS):
        assert top == own or LAYERS[top] < LAYERS[own], f"{own} must not import {top}"


def acts(path: Path) -> set[str]:
    """What a file names that would read a clock, open a file or handle a signal."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    dotted = {f"{ast.unparse(node.value)}.{node.attr}" for node in attributes}
    return (names & {"open", "input", "print"}) | (dotted & ACTS)


@pytest.mark.parametrize("path", files("ambcore"), ids=lambda path: path.name)
def test_the_core_computes_and_nothing_else(path: Path) -> None:
    assert tops(path) <= CALCULATION | VALUES | {"ambcore"}
    assert not acts(path)


@pytest.mark.parametrize("name", PURE)
def test_a_pure_file_of_a_program_uses_the_core_and_its_pure_neighbours_alone(name: str) -> None:
    path = ROOT / name
    neighbours = {pure.removesuffix(".py").replace("/", ".") for pure in PURE}
    for module in imports(path):
        near = any(f"{module}.".startswith(f"{neighbour}.") for neighbour in neighbours)
        assert near or module.partition(".")[0] in CALCULATION | VALUES | {"ambcore"}, f"{name} imports {module}"
    assert not acts(path)


@pytest.mark.parametrize("package", SMALL)
def test_what_runs_in_20_mib_loads_nothing_heavy(package: str) -> None:
    """Through others neither: asked of a fresh interpreter, not read from the text."""
    program = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, *modules(package)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert package.partition(".")[0] in loaded
    assert not loaded & HEAVY


def test_the_import_contract_of_the_project_file_is_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_no_file_and_no_function_outgrows_a_reader() -> None:
    """Files to 400 lines, functions to 60: orientation, so a good reason may raise a number here."""
    for path in files(*LAYERS):
        text = path.read_text()
        assert text.count("\n") < 400, f"{path} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
