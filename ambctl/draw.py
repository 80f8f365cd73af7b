"""Tables, fields and findings on whatever they are written on, as lines; rich draws where people read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ambcore.findings import Finding, Level
from ambctl.paper import Paper
from ambctl.render import Cell, Column, Shade, aligned

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

COLORS = {Level.GREEN: "green", Level.AMBER: "yellow", Level.RED: "red", Level.UNKNOWN: "magenta"}
UNLIMITED = 100_000  # columns: nothing is wrapped
GAP = "  "  # between columns
LEAST = 6  # columns: what is narrower says nothing


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], paper: Paper, *, cut: bool = False) -> list[str]:
    """Rows under heads; a column with nothing in it is left out. What is wider than the paper is made to fit: notes
    go below their rows, spare columns go, and of what remains the widest cells are wrapped, or cut with `cut`.
    """
    texts = [[column.head for column in columns], *([_text(cell) for cell in row] for row in rows)]
    if paper.plain:
        return list(aligned(texts))
    cells = [
        [_styled(column.head, "bold") for column in columns],
        *([_shaded(cell, paper) for cell in row] for row in rows),
    ]
    used = [number for number in range(len(columns)) if any(row[number] for row in texts[1:])]
    widths = {number: max(row[number].cell_len for row in cells) for number in used}
    below, widths = _fit(columns, widths, paper.width or UNLIMITED)
    lines: list[str] = []
    waiting: list[list[Text]] = []
    for row in cells:
        waiting.append([row[number] for number in widths])
        if row is not cells[0] and below is not None and row[below]:
            lines += drawn(_grid(columns, widths, waiting, cut), paper)
            lines += drawn(_indented(row[below]), paper)
            waiting = []
    return lines + (drawn(_grid(columns, widths, waiting, cut), paper) if waiting else [])


def _fit(columns: Sequence[Column], widths: dict[int, int], limit: int) -> tuple[int | None, dict[int, int]]:
    """Which column goes below its rows, if one has to, and how wide those are that stay."""

    def excess() -> int:
        return sum(widths.values()) + len(GAP) * (len(widths) - 1) - limit

    widths, below = dict(widths), None
    if excess() > 0 and columns[last := max(widths)].note:
        below = last
        del widths[last]
    for number in sorted(widths, key=lambda each: columns[each].spare, reverse=True):
        if excess() > 0 and columns[number].spare:
            del widths[number]
    for firm in (False, True):
        while excess() > 0:
            shrinkable = [each for each in widths if columns[each].firm is firm and widths[each] > LEAST]
            if not shrinkable:
                break
            widths[max(shrinkable, key=lambda each: widths[each])] -= 1
    return below, widths


def _grid(columns: Sequence[Column], widths: dict[int, int], rows: list[list[Text]], cut: bool) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415 - who writes into a pipe does without

    grid = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), show_header=False)
    for number, width in widths.items():
        grid.add_column(
            width=width,
            justify="right" if columns[number].right else "left",
            no_wrap=cut,
            overflow="ellipsis" if cut else "fold",
        )
    for row in rows:
        grid.add_row(*row)
    return grid


def _indented(text: Text) -> RenderableType:
    from rich.padding import Padding  # noqa: PLC0415

    return Padding(text, (0, 0, 0, 4))


def fields(title: str, pairs: Iterable[tuple[str, Cell]], paper: Paper) -> list[str]:
    """A title and below it names with values, which are wrapped beside their names."""
    if paper.plain:
        return [title, *(f"  {name:<10}  {_text(value)}" for name, value in pairs)]
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), show_header=False)
    grid.add_column(style="dim", min_width=10, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, _shaded(value, paper))
    return [*drawn(Text(title, style="bold", overflow="fold"), paper), *drawn(Padding(grid, (0, 0, 0, 2)), paper)]


def heading(text: str, paper: Paper) -> list[str]:
    """A title above what follows."""
    return [text] if paper.plain else drawn(_styled(text, "bold"), paper)


def findings(found: Sequence[Finding], paper: Paper) -> list[str]:
    """One line a finding, with what to do; on a terminal that stands below, behind an arrow."""
    width = max((len(finding.topic) for finding in found), default=0)
    if paper.plain:
        return [
            f"{one.level.value:<7}  {one.topic:<{width}}  {one.says}{f' -> {one.do}' if one.do else ''}"
            for one in found
        ]
    from rich.table import Table  # noqa: PLC0415

    grid = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(style="bold", overflow="fold")
    grid.add_column(overflow="fold", ratio=1)
    for one in found:
        shade = COLORS[one.level] if one.level is not Level.GREEN else ""
        grid.add_row(_shaded(Shade("", one.level), paper), one.topic, _styled(one.says, shade))
        if one.do:
            grid.add_row("", "", _styled(f"→ {one.do}" if paper.marks else f"-> {one.do}", ""))
    return drawn(grid, paper)


def notices(found: Iterable[tuple[Level, str]], paper: Paper) -> list[str]:
    """What has to be said beside a table, a line each, wrapped where the paper ends."""
    if paper.plain:
        return [f"{level.value}: {text}" for level, text in found]
    return [line for level, text in found for line in drawn(_shaded(Shade(text, level), paper), paper)]


def news(lines: Iterable[str], paper: Paper) -> Iterator[str]:
    """Lines that begin with what happened (`render.news_lines`), in its colour."""
    moods = {"+": "green", "~": "yellow", "-": "yellow", "!": "red", "#": "dim"}
    for line in lines:
        yield drawn(_styled(line, moods.get(line[:1], "")), Paper(None, color=True))[0] if paper.color else line


def drawn(what: RenderableType, paper: Paper) -> list[str]:
    """Lines of what rich can draw."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(
        file=io.StringIO(),
        width=paper.width or UNLIMITED,
        color_system="standard" if paper.color else None,  # the reader's own sixteen colours
        force_terminal=True,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    with console.capture() as caught:
        console.print(what)
    return [line.rstrip() for line in caught.get().splitlines()]


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Shade) else cell


def _shaded(cell: Cell, paper: Paper) -> Text:
    if not isinstance(cell, Shade):
        return _styled(cell, "")
    mark = paper.marks[cell.level] if paper.marks else ""
    return _styled(" ".join(filter(None, (mark, cell.text))), COLORS[cell.level])


def _styled(text: str, style: str) -> Text:
    from rich.text import Text  # noqa: PLC0415

    return Text(text, style=style)
