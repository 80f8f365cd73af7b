"""docs/start.md: somebody who has only the page gets to a balanced service of their own, by its commands."""

from __future__ import annotations

import sys

import pytest

from tests.docs.conftest import CONTAINERS, END, START, Started
from tests.docs.pages import Block, blocks, fits

MINUTES = 10


def test_blocks_and_what_they_print_are_told_apart() -> None:
    """The reader of the pages itself: a mistake in it would let a wrong page pass."""
    text = "a\n```sh\none\n```\n\n```text\n1\n```\n\n```sh\ntwo\n```\nb\n\n```text\nno output\n```\n```json\n{}\n```\n"
    assert blocks(text) == (Block("one\n", "1\n"), Block("two\n"))


@pytest.mark.parametrize(
    ("printed", "expected", "fit"),
    [
        ("a  1.2.3.4:55 up\n", "a 10.0.0.1:… up\n", True),
        ("a  1.2.3.4:55 up\nb\n", "a 10.0.0.1:… up\n", False),
        ("a\nb\nc\nd\n", "a\n…\nd\n", True),
        ("a\nd\n", "a\n…\nd\n", True),
        ("a\nb\n", "a\n…\nd\n", False),
        ("aXb\n", "a.b\n", False),
        ("", "a\n", False),
    ],
)
def test_what_is_printed_is_held_to_what_the_page_shows(printed: str, expected: str, fit: bool) -> None:
    assert fits(printed, expected, {"10.0.0.1": "1.2.3.4"}) is fit


@pytest.mark.docker
def test_from_nothing_to_a_balanced_service_within_ten_minutes(started: Started) -> None:
    """The clock runs over every command and its waiting; the images were built before. tests/docs/fresh.py has both."""
    sys.stderr.write(f"docs/start.md, in seconds: {started.seconds}\n")  # for `pytest -s`
    assert sum(started.seconds.values()) < 60 * MINUTES, started.seconds


def test_the_page_clears_away_what_it_made() -> None:
    """The fixture does so with the same commands: what they forget is in the way of the next run."""
    (block,) = blocks(START[END])
    assert {*CONTAINERS, "hello"} <= set(block.commands.split())
