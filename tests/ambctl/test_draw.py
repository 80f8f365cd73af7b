"""How tables, fields and findings look on paper of some width, with colours and without."""

from __future__ import annotations

import re

import pytest

from ambcore.findings import Finding, Level
from ambcore.history import Listed
from ambctl import draw
from ambctl.paper import MARKS, PLAIN_MARKS, Paper, paper
from ambctl.render import LISTING, Column, Shade, fields, key_text, listing, news_lines
from ambctl.view import View
from tests.ambctl.test_render import DNS, EVIL, PREFIX, READER, REDIS, found, item
from tests.support.golden import golden

ENTRIES = found(item(REDIS, 7), item(DNS), EVIL)
FINDINGS = [
    Finding(Level.GREEN, "container", "redis-demo.service is running"),
    Finding(Level.RED, "port", "6379/tcp is not published", "publish it: docker run -p 6379"),
    Finding(Level.AMBER, "lease", "4be1 has 1 s left"),
    Finding(Level.UNKNOWN, "dynproxy on core-02", "http://10.1.1.1:9100: no answer in 2 s", "ask it there"),
]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("color", [False, True], ids=["plain", "color"])
@pytest.mark.parametrize("width", [60, 100, 200, None])
def test_what_people_read_is_as_it_was_when_somebody_looked(width: int | None, color: bool) -> None:
    on = Paper(width, color, MARKS if width or color else None)
    lines = draw.table(LISTING, listing(ENTRIES, PREFIX), on)
    for entry in ENTRIES:
        lines += ["", *draw.fields(key_text(entry.item.key), fields(entry, {7: 6}), on)]
    lines += ["", *draw.findings(FINDINGS, on)]
    if width:
        assert max(len(ESCAPE.sub("", line)) for line in lines) <= width
    golden(f"ambctl_{width or 'pipe'}{'_color' if color else ''}.txt", lines)


def test_colours_change_nothing_but_colours() -> None:
    for width in (60, 100, 200):
        rows = listing(ENTRIES, PREFIX)
        colored = draw.table(LISTING, rows, Paper(width, True, MARKS))
        assert [ESCAPE.sub("", line).rstrip() for line in colored] == draw.table(
            LISTING, rows, Paper(width, False, MARKS)
        )


def test_a_pipe_gets_every_word_in_one_line_a_record() -> None:
    long = "x" * 500
    assert draw.table([Column("A"), Column("B")], [(long, Shade("y", Level.RED))], Paper())[1:] == [f"{long}  y"]
    assert len(draw.findings(FINDINGS, Paper())) == len(FINDINGS)


def test_what_must_stay_one_line_is_cut() -> None:
    lines = draw.table([Column("A"), Column("B")], [("x" * 500, "y")], Paper(30, False, MARKS), cut=True)
    assert lines == [f"A{' ' * 28}B", f"{'x' * 26}…  y"]


def test_paper_narrower_than_anything_is_survived() -> None:
    for width in (20, 25):
        assert draw.table(LISTING, listing(ENTRIES, PREFIX), Paper(width, False, MARKS))
        assert draw.findings(FINDINGS, Paper(width, False, MARKS))


def test_markup_of_others_is_text() -> None:
    _, row = draw.table([Column("A")], [("[red]:smile:[/red] [link=http://x]y",)], Paper(80, True, MARKS))
    assert row == "[red]:smile:[/red] [link=http://x]y"


def test_news_have_the_colour_of_what_happened() -> None:
    lines = ["+ a", "~ a", "- a", "! a", "# 1 instance known"]
    assert list(draw.news(lines, Paper(80, False, MARKS))) == lines
    colored = list(draw.news(lines, Paper(None, True, MARKS)))
    assert [ESCAPE.sub("", line) for line in colored] == lines
    assert colored[0] == "\x1b[32m+ a\x1b[0m"
    _, none = View().digest(Listed((), 1), READER)
    assert list(draw.news(news_lines(none), Paper())) == ["# 0 instances known, watching"]


@pytest.mark.parametrize(
    ("when", "environ", "terminal", "color"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"CLICOLOR": "0"}, True, False),
        ("auto", {"CLICOLOR": "1"}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_who_decides_on_colours(when: str, environ: dict[str, str], terminal: bool, color: bool) -> None:
    assert paper(when, environ, terminal=terminal, columns=80, encoding="utf-8").color is color


def test_marks_are_what_the_terminal_can_show() -> None:
    assert paper("auto", {}, terminal=True, columns=80, encoding="utf-8").marks == MARKS
    assert paper("auto", {}, terminal=True, columns=80, encoding="latin-1").marks == PLAIN_MARKS
    assert paper("auto", {}, terminal=False, columns=0, encoding="utf-8").marks is None
    assert paper("auto", {}, terminal=True, columns=3, encoding="utf-8").width == 20
