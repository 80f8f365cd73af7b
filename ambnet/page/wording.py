"""Figures as people read them: two or three digits and a unit. Pure."""

from __future__ import annotations

UNKNOWN = "\u2013"  # a dash
AGES = ((86400.0 * 2, 86400.0, "d"), (3600.0 * 2, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))


def figure(value: float | None) -> str:
    """`0`, `7`, `4.2`, `1.2k`, `35M`; a dash where it is not known."""
    if value is None:
        return UNKNOWN
    return _scaled(value, 1000.0, ("", "k", "M", "G", "T", "P"), "")


def size(value: float | None) -> str:
    """Bytes: `0 B`, `12 B`, `3.4 kB`, `1.2 MB`, in powers of 1000 as network people count."""
    if value is None:
        return UNKNOWN
    return _scaled(value, 1000.0, (" B", " kB", " MB", " GB", " TB", " PB"), " B")


def age(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `9 d`: one number, rounded down, as page.js does it."""
    unit = next(each for each in AGES if seconds >= each[0] or each[1] == 1.0)
    return f"{max(int(seconds // unit[1]), 0)} {unit[2]}"


def _scaled(value: float, step: float, units: tuple[str, ...], small: str) -> str:
    place = 0
    while value >= step * 0.9995 and place < len(units) - 1:
        value /= step
        place += 1
    if value == 0:
        return f"0{small}"
    digits = 0 if value >= 9.95 or (place == 0 and value == int(value)) else 1
    if value < 0.1:
        return f"<0.1{units[place]}"
    return f"{value:.{digits}f}{units[place]}"
