"""A pytest plugin: the faults of docs/faults.md, the tests that hold them, and what those came to.

A fault's tests bear its id, as in `test_C3_backend_blackhole`. One says by the fixture `figure` what it measured.
Those marked `long` take minutes and run with `--faults` only: that leaves out every test without an id, prints a line a
fault and writes the same to build/faults.json. A fault that no test has held fails the run.

Runs beside one another (scripts/faults) write to files of their own, `--faults-written`; what they came to together is
`python -m tests.support.fault_matrix FILE…`, which prints, writes and fails as one run would.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MATRIX = ROOT / "docs/faults.md"
WRITTEN = ROOT / "build/faults.json"

ROW = re.compile(r"^\| ([ABC]\d+) \| ([^|]+) \| ([^|]+) \|")
TEST = re.compile(r"\btest_([ABC]\d+)_")
FIGURE = "figure"


@dataclass
class Fault:
    """A row of the matrix: `promise` is what clients and operators may rely on. The rest is what a run found."""

    id: str
    name: str
    promise: str
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    @property
    def result(self) -> str:
        """One word, or two."""
        if self.failed:
            return "FAILED"
        return "held" if self.passed and not self.skipped else "NOT HELD"


def read_matrix(text: str) -> dict[str, Fault]:
    """The faults of a document, in its order."""
    rows = filter(None, map(ROW.match, text.splitlines()))
    return {row[1]: Fault(row[1], row[2].strip(), row[3].strip()) for row in rows}


def lines(faults: Iterable[Fault]) -> Iterator[str]:
    """A line a fault, what was measured, and the tests that did not hold it."""
    for fault in faults:
        yield f"{fault.id:4} {fault.result:8} {fault.name}: {fault.promise}"
        for text in fault.figures:
            yield f"{'':13} {text}"
        for test in fault.failed + fault.skipped:
            yield f"{'':13} not held by {test}"


def write(faults: Iterable[Fault], path: Path) -> None:
    """As JSON: a list of objects, Fault's fields and `result`."""
    path.parent.mkdir(exist_ok=True)
    rows = [asdict(fault) | {"result": fault.result} for fault in faults]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def together(files: Iterable[Path]) -> list[Fault]:
    """What several runs have written, as if it had been one."""
    faults = read_matrix(MATRIX.read_text())
    for file in files:
        for row in json.loads(file.read_text()):
            fault = faults.setdefault(row["id"], Fault(row["id"], row["name"], row["promise"]))
            for kind in ("passed", "failed", "skipped", "figures"):
                getattr(fault, kind).extend(row[kind])
    return list(faults.values())


def fault_of(nodeid: str) -> str | None:
    """The id that a test bears, None if it has none."""
    found = TEST.search(nodeid)
    return found[1] if found else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--faults` and `--faults-written`."""
    parser.addoption("--faults", action="store_true", help="the tests of the fault matrix alone, the long ones too")
    parser.addoption("--faults-written", type=Path, default=WRITTEN, metavar="FILE", help=f"default: {WRITTEN}")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the books where they are asked for."""
    if config.getoption("--faults"):
        config.pluginmanager.register(Books(config), "fault books")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this run is not about."""
    wanted: Callable[[pytest.Item], bool]
    if config.getoption("--faults"):

        def wanted(item: pytest.Item) -> bool:
            return fault_of(item.nodeid) is not None
    else:

        def wanted(item: pytest.Item) -> bool:
            return item.get_closest_marker("long") is None

    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item)]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured, short and with its unit: `figure(f"{failed} of {total} failed")`."""

    def say(text: str) -> None:
        request.node.user_properties.append((FIGURE, text))

    return say


class Books:
    """What the tests of each fault came to."""

    def __init__(self, config: pytest.Config) -> None:
        self.faults = read_matrix(MATRIX.read_text())
        self._written: Path = config.getoption("--faults-written")
        self._whole = not config.getoption("keyword") and not config.getoption("markexpr")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Enter a test's result: its call's, or what kept it from that."""
        if report.when != "call" and report.passed:
            return
        name = fault_of(report.nodeid) or ""
        fault = self.faults.setdefault(name, Fault(name, "not in the matrix", ""))
        test = report.nodeid.rpartition("::")[2]
        getattr(fault, report.outcome).append(test)
        if report.when == "call":
            fault.figures += [str(text) for key, text in report.user_properties if key == FIGURE]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write them down; a fault without a test that passed is a failure of the run."""
        write(self.faults.values(), self._written)
        if self._whole and session.exitstatus == 0 and any(fault.result != "held" for fault in self.faults.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line a fault."""
        terminalreporter.section("faults")
        for line in lines(self.faults.values()):
            terminalreporter.write_line(line)


def main() -> int:
    """0 if each fault was held."""
    faults = together(map(Path, sys.argv[1:]))
    write(faults, WRITTEN)
    sys.stdout.writelines(f"{line}\n" for line in lines(faults))
    return int(any(fault.result != "held" for fault in faults))


if __name__ == "__main__":
    sys.exit(main())
