"""Texts that somebody looked at once, kept in tests/golden to notice when they change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def golden(name: str, lines: Sequence[str]) -> None:
    """Compare lines with the file of that name, where ESC is written `\\e`. With WRITE_GOLDEN=1 in the environment it
    is written instead: look at the difference.
    """
    text = "".join(f"{line}\n" for line in lines).replace("\x1b", "\\e")
    if os.environ.get("WRITE_GOLDEN"):
        (FOLDER / name).write_text(text)
    assert (FOLDER / name).read_text() == text
