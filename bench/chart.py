"""The chart: a panel a figure, a bar a subject, the least and the greatest round as a line. Pure; writes SVG.

Its background is left out and its greys are middle ones, so that it reads on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bench.rounds import Row

PANELS = (
    ("get-50", "rate", "GET/s, 50 connections", True),
    ("get-50", "p99", "p99 of these, ms", False),
    ("connections", "rate", "new connections/s", True),
    ("bulk-1", "throughput", "bulk, one stream, Gbit/s", True),
    ("get-50", "cpu", "CPU of the whole machine per GET, µs", False),
    ("idle", "memory", "memory per idle connection, KiB", False),
)
ACROSS = 2
WIDTH, NAMES, BAR, GAP, HEAD, VALUE = 440, 96, 16, 6, 44, 70  # pixels
INK, OURS, THEIRS, NONE = "#768390", "#2da44e", "#8c959f", "#539bf5"


def chart(rows: Sequence[Row], subjects: Sequence[str]) -> str:
    """An SVG document; panels without a figure are left out."""
    panels = [panel for panel in (_panel(rows, subjects, each) for each in PANELS) if panel]
    height = HEAD + len(subjects) * (BAR + GAP) + GAP
    down = -(-len(panels) // ACROSS)
    placed = (
        f'<g transform="translate({WIDTH * (place % ACROSS)},{height * (place // ACROSS)})">{panel}</g>'
        for place, panel in enumerate(panels)
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * ACROSS} {height * down}"'
        f' font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    )
    return "\n".join((head, *placed, "</svg>\n"))


def _panel(rows: Iterable[Row], subjects: Sequence[str], what: tuple[str, str, str, bool]) -> str:
    workload, metric, title, more = what
    found = {row.subject: row for row in rows if (row.workload, row.metric) == (workload, metric)}
    if not found:
        return ""
    scale = (WIDTH - NAMES - VALUE) / (max(row.max for row in found.values()) or 1)
    hint = f'<tspan dx="8" font-weight="400" font-size="11">{"more" if more else "less"} is better</tspan>'
    lines = [f'<text x="0" y="22" font-size="14" font-weight="600">{escape(title)}{hint}</text>']
    shown = [subject for subject in subjects if subject in found]
    for place, subject in enumerate(shown):
        lines.append(_bar(found[subject], HEAD + place * (BAR + GAP), scale))
    return "\n".join(lines)


def _bar(row: Row, top: int, scale: float) -> str:
    colour = NONE if row.subject == "direct" else OURS if row.subject.startswith(("kernel", "relay")) else THEIRS
    middle = top + BAR / 2
    end = NAMES + row.median * scale
    least, most = NAMES + row.min * scale, NAMES + row.max * scale
    return (
        f'<text x="{NAMES - 8}" y="{middle + 4}" text-anchor="end">{escape(row.subject)}</text>'
        f'<rect x="{NAMES}" y="{top}" width="{end - NAMES:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="{INK}" stroke-width="1.5"/>'
        f'<text x="{max(end, most) + 6:.1f}" y="{middle + 4}">{number(row.median)}</text>'
    )


def number(value: float) -> str:
    """A figure for people: three significant digits, thousands apart; whole numbers as they are."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"
