"""PURE: findings in the words of the four levels."""

from __future__ import annotations

from ambcore.findings import Finding, Level


def green(topic: str, says: str) -> Finding:
    """All is well."""
    return Finding(Level.GREEN, topic, says)


def amber(topic: str, says: str, do: str) -> Finding:
    """It serves; somebody should know."""
    return Finding(Level.AMBER, topic, says, do)


def red(topic: str, says: str, do: str) -> Finding:
    """It does not serve, or not as it was meant to."""
    return Finding(Level.RED, topic, says, do)


def unknown(topic: str, says: str, do: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(Level.UNKNOWN, topic, says, do)


def plural(number: int, noun: str, several: str = "") -> str:
    """`1 member`, `3 members`."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def some(names: list[str], most: int = 5) -> str:
    """The first few of many, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
