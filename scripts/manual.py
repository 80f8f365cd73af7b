"""MkDocs' hook: what lies elsewhere in the repository and has a link in docs/ comes along, and the link leads there."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"units/README.md": "units.md", "CHANGELOG.md": "changelog.md"}  # in the repository -> in the manual
LINK = re.compile(r"\]\(\.\./([^)#\s]+)")  # from a page of docs/ itself, not from one in a folder below it


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """`mkdocs serve` builds anew when one of the pages changes."""
    config.watch += [str(ROOT / path) for path in PAGES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and other files as they are."""
    linked = {path for page in Path(config.docs_dir).glob("*.md") for path in LINK.findall(page.read_text())}
    for path in sorted(linked | PAGES.keys()):
        if (ROOT / path).is_file():
            files.append(File.generated(config, PAGES.get(path, path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In pages of docs/, `](../units/README.md)` becomes `](units.md)`, and `](../x/y.yml)` becomes `](x/y.yml)`."""
    if "/" in page.file.src_uri:
        return markdown
    return LINK.sub(lambda link: f"]({PAGES.get(link[1], link[1])}", markdown)
