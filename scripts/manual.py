"""MkDocs' hook: what lies elsewhere in the repository and is linked in the manual comes along, and links lead there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"units/README.md": "units.md", "CHANGELOG.md": "changelog.md"}  # in the repository -> in the manual
ORIGINS = {page: path for path, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """`mkdocs serve` builds anew when one of the pages changes."""
    config.watch += [str(ROOT / path) for path in PAGES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and files that have a link as they are."""
    written = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    linked = {
        _meant(link, origin) for origin in (*written, *PAGES) for link in LINK.findall((ROOT / origin).read_text())
    }
    others = {path for path in linked if (ROOT / path).is_file() and not path.startswith("docs/")}
    for path in sorted(others | PAGES.keys()):
        files.append(File.generated(config, PAGES.get(path, path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the repository become links within the manual."""
    here = page.file.src_uri
    origin = ORIGINS.get(here, f"docs/{here}")

    def within(link: re.Match[str]) -> str:
        path = _meant(link[1], origin)
        return posixpath.relpath(PAGES.get(path, path.removeprefix("docs/")), posixpath.dirname(here) or ".")

    return LINK.sub(within, markdown)


def _meant(link: str, origin: str) -> str:
    """What a link means in the repository, written in the document `origin` of it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
