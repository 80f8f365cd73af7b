"""What another process sent, read with doubt: any field may be missing, of another type, huge or unprintable. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ambcore.text import visible

MAX_TEXT = 300  # characters of a field on the page
MOST = 1e18  # no counter or duration that means anything is larger

Document = Mapping[str, Any]
NONE: Document = {}


def text(document: Document, name: str, default: str = "") -> str:
    """A field as printable text; a number as its digits."""
    value = document.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return visible(value[:MAX_TEXT]) if isinstance(value, str) else default


def number(document: Document, name: str) -> float | None:
    """A finite number that is not negative; None for anything else."""
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MOST and math.isfinite(value) else None


def count(document: Document, name: str) -> int:
    """A number as an int, 0 where there is none."""
    return int(number(document, name) or 0)


def part(document: Document, name: str) -> Document:
    """An object within a document, an empty one where there is none."""
    value = document.get(name)
    return value if isinstance(value, Mapping) else NONE


def parts(document: Document, name: str, most: int) -> Iterator[Document]:
    """The objects of a list, at most so many of them; what is no object is left out."""
    value = document.get(name)
    for item in (value if isinstance(value, list | tuple) else ())[:most]:
        if isinstance(item, Mapping):
            yield item


def texts(document: Document, name: str, most: int) -> tuple[str, ...]:
    """The texts and numbers of a list, at most so many of them."""
    value = document.get(name)
    items = (value if isinstance(value, list | tuple) else ())[:most]
    return tuple(read for item in items if (read := text({"": item}, "")))
