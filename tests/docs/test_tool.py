"""docs/ambctl.md: its commands print what it shows, on the machine of the first page."""

from __future__ import annotations

import pytest

from tests.docs.conftest import ROOT, Started
from tests.docs.pages import blocks

PAGE = blocks((ROOT / "docs/ambctl.md").read_text())


@pytest.mark.docker
def test_the_commands_print_what_the_page_shows(started: Started) -> None:
    assert len([block for block in PAGE if block.printed]) >= 4
    for block in PAGE:
        started.shell.perform(block)
