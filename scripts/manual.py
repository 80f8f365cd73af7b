"""MkDocs' hook: documents that live elsewhere in the repository become pages, and links to them lead there."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"units/README.md": "units.md", "CHANGELOG.md": "changelog.md"}  # in the repository -> in the manual


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """`mkdocs serve` builds anew when one of them changes."""
    config.watch += [str(ROOT / path) for path in ELSEWHERE]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents to the pages."""
    for path, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In pages of docs/, `](../units/README.md)` becomes `](units.md)`."""
    for path, target in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{path}", f"]({target}")
    return markdown
