"""docs/options.md is what the programs say of themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_options_is_what_the_programs_say() -> None:
    """Whoever adds an option or changes its help writes the page anew."""
    written = subprocess.run(
        [sys.executable, ROOT / "scripts/options", "--print"], capture_output=True, text=True, check=True, timeout=60
    )
    shown = (ROOT / "docs/options.md").read_text()
    assert written.stdout == shown, "docs/options.md is out of date: make docs (or scripts/options) writes it"
