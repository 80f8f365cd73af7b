"""Text of others on our screens and pages."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with every unprintable character as an escape: one line that no terminal obeys."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
