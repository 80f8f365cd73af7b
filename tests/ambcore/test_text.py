"""Text of others, fit for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 赤", "größe 赤"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_might_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_visible_text_is_printable_and_shown_as_it_is_again(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)
