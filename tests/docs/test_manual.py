"""The manual builds without a warning, loads nothing from elsewhere, and no link of any document is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[(?:[^\]\\]|\\.)*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
BLOCK = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href|srcset)=[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE
)
LOADED_BY_STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual, built: `mkdocs.yml` makes a warning an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return folder


def test_every_document_of_the_folder_is_a_page_of_the_manual(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}


def test_the_manual_loads_nothing_from_elsewhere(site: Path) -> None:
    """It is read on machines that reach nothing else; and nobody is told who reads what."""
    found = [
        f"{path.relative_to(site)}: {match[0]}"
        for pattern, loaded in (("*.html", LOADED), ("*.css", LOADED_BY_STYLE), ("*.svg", LOADED_BY_STYLE))
        for path in site.rglob(pattern)
        for match in loaded.finditer(path.read_text())
    ]
    assert found == []


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    made_here = {"build", "dist"}
    folders = [ROOT, *(path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))]
    found = [path for folder in folders[1:] if folder.name not in made_here for path in folder.rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *found])


@cache
def anchors(document: Path) -> frozenset[str]:
    """What a `#` of a link may name: headings as GitHub and MkDocs spell them, which agree on plain words."""
    text = BLOCK.sub(lambda match: match[0].strip("`") if "\n" not in match[0] else "", document.read_text())
    headings = re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE)
    named = [re.sub(r"[^\w\- ]", "", LINK.sub("", heading).lower()).strip() for heading in headings]
    return frozenset(re.sub(r" ", "-", name) for name in named) | frozenset(
        re.sub(r"[-\s]+", "-", name) for name in named
    )


def _dead(document: Path, text: str) -> Iterator[str]:
    """The links of a document that lead nowhere within the repository."""
    for target in LINK.findall(BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        ours = there.is_relative_to(ROOT) and there.exists()
        if not ours or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            yield target


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(document: Path) -> None:
    assert list(_dead(document, document.read_text())) == []


def test_a_dead_link_is_found() -> None:
    """The reader itself: a mistake in it would let every document pass."""
    assert {ROOT / "README.md", ROOT / "docs/index.md", ROOT / "units/README.md"} <= set(documents())
    assert "figures" in anchors(ROOT / "docs/behavior.md")
    text = (
        "[a](README.md) `[b](none)` ![c](none.svg) [d](docs/behavior.md#figures) [e](docs/behavior.md#none) [f](/etc)"
    )
    document = ROOT / "imagined.md"
    assert list(_dead(document, f"{text}\n```\n[g](none)\n```\n")) == ["none.svg", "docs/behavior.md#none", "/etc"]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_names_a_place_of_ours(document: Path) -> None:
    """A path of whoever wrote it means nothing to whoever reads it."""
    assert not re.search(r"(?<![\w.])/(?:work|home/\w+)/", document.read_text())
