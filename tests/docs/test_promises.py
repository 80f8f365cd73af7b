"""Every promise names what holds it, and what is named exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.fault_matrix import MATRIX, ROOT, fault_of, read_matrix

BEHAVIOR = ROOT / "docs/behavior.md"
PAGES = sorted(
    page for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "units/README.md"] if page.is_file()
)
ID = re.compile(r"\b[ABC]\d{1,2}\b")
NAME = re.compile(r"`(test_\w+)`")
FREE = ("Figures",)  # sections of behavior.md that tell, and promise nothing


@cache
def known() -> frozenset[str]:
    """The names of all tests."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
    functions = (node for tree in trees for node in ast.walk(tree))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(each.name for each in functions if isinstance(each, kinds) and each.name.startswith("test_"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_exist(page: Path) -> None:
    assert [name for name in NAME.findall(page.read_text()) if name not in known()] == []


def test_faults_that_are_named_are_in_the_matrix() -> None:
    assert set(ID.findall(BEHAVIOR.read_text())) - read_matrix(MATRIX.read_text()).keys() == set()


def test_every_fault_has_a_test_and_every_test_of_a_fault_has_one() -> None:
    held = {fault_of(name) for name in known()} - {None}
    assert held == read_matrix(MATRIX.read_text()).keys()


def promises(text: str) -> list[str]:
    """The items and the rows of a page's lists and tables, each in one line; a table's head and the sections that
    promise nothing are left out.
    """
    found: list[str] = []
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif section in FREE or line.startswith("|---"):
            if line.startswith("|---") and found:
                found.pop()
        elif line.startswith(("- ", "|")):
            found.append(line)
        elif line.startswith("  ") and found:
            found[-1] += line[1:]
    return found


def test_every_promise_names_a_fault_or_a_test() -> None:
    assert [each[:100] for each in promises(BEHAVIOR.read_text()) if not (ID.search(each) or NAME.search(each))] == []
