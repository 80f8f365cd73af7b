"""The page's HTML, by templates that escape whatever they are given."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ambcore.findings import Finding, Level
from ambnet.page import plots, wording
from ambnet.page.fragments import Snapshot
from ambnet.page.history import Rate, Series
from ambnet.page.model import Fleet, Seat, Service, State, Work
from ambnet.page.picture import picture

# An age changes by itself, which shall be no news: fragments hold the moment, pages the age as well. Both characters
# are private ones, which `visible` leaves in no text of others.
MOMENT = re.compile("\ue000(-?[0-9]+)\ue001")
KEPT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What takes more than one look: rates a second (begun, bytes, failed) by service or (service, instance), and the
    last fifteen minutes of a service.
    """

    rate: Rate
    series: Callable[[str], Series | None]


def element_id(*names: str) -> str:
    """The id of an element that stands for a name, whatever characters that has."""
    return "x" + hashlib.blake2b("/".join(names).encode(), digest_size=8).hexdigest()


def _since(moment: int) -> Markup:
    return Markup(f'<time data-since="{moment:d}">\ue000{moment:d}\ue001</time>')  # noqa: S704 - a number


def _until(moment: int) -> Markup:
    return Markup(f'<time data-until="{moment:d}">\ue000-{moment:d}\ue001</time>')  # noqa: S704 - likewise


def _path(service: str) -> str:
    return f"/service/{quote(service, safe='')}"


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


class Renderer:
    """Snapshots and whole pages. Rows that did not change are not made again."""

    def __init__(self, title: str, css: str, js: str) -> None:
        environment = Environment(
            loader=PackageLoader("ambnet.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        environment.filters |= {"since": _since, "until": _until, "path": _path, "web": _is_web}
        self._parts: Any = environment.get_template("parts.html.j2").module
        self._page = environment.get_template("page.html.j2")
        self._names = {"title": title, "css": css, "js": js}
        self._rows: dict[tuple[str, bool], tuple[object, str]] = {}

    def fleet(self, fleet: Fleet, figures: Figures) -> Snapshot:
        """The page of all services."""
        parts = self._parts
        leaves: dict[str, str] = {
            "notices": parts.notices("notices", fleet.notices),
            "summary": parts.summary("summary", _summary(fleet, figures)),
            "picture": parts.drawing("picture", picture(fleet)),
            "unregistered": parts.unregistered("unregistered", fleet.unregistered),
            "programs": parts.programs("programs", fleet.programs),
        }
        lists: dict[str, tuple[str, ...]] = {"services": tuple(element_id(each.name) for each in fleet.services)}
        for service in fleet.services:
            key = element_id(service.name)
            place = Markup(f'<div id="{key}-h"></div>')  # noqa: S704 - our own id
            leaves[key] = parts.section(key, service, place, "")
            leaves[f"{key}-h"] = self._head(f"{key}-h", service, figures, whole=False)
            lists[f"{key}-r"] = self._seats(service, figures, leaves, whole=False)
        self._forget_rows()
        return Snapshot(leaves, lists)

    def service(self, service: Service, fleet: Fleet, figures: Figures, findings: Sequence[Finding]) -> Snapshot:
        """The page of one service."""
        parts = self._parts
        leaves: dict[str, str] = {
            "notices": parts.notices("notices", fleet.notices),
            "head": self._head("head", service, figures, whole=True),
            "findings": parts.findings("findings", findings),
            "stands": parts.stands("stands", service.stands),
        }
        return Snapshot(leaves, {"rows": self._seats(service, figures, leaves, whole=True)})

    def page(self, snapshot: Snapshot, *, service: str, query: str, version: str, live: str, at: float) -> str:
        """A whole page, as it stands in the snapshot; of the services' page what matches the query."""

        def leaf(name: str) -> Markup:
            return Markup(snapshot.leaves[name])  # noqa: S704 - made by a template

        def children(name: str) -> Markup:
            return Markup("").join(leaf(key) for key in snapshot.lists[name])

        sections = Markup("") if service else self._sections(snapshot, query)
        html = self._page.render(
            leaf=leaf,
            list=children,
            parts=self._parts,
            sections=sections,
            service=service,
            query=query,
            version="" if query else version,
            live=live,
            now=round(at, 3),
            clock=_clock(at),
            **self._names,
        )
        return MOMENT.sub(lambda found: _age(int(found[1]), at), html)

    @staticmethod
    def live(changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """A message for open pages, which write the ages themselves."""
        return {**changes, "set": {key: MOMENT.sub("", html) for key, html in changes["set"].items()}}

    def _sections(self, snapshot: Snapshot, query: str) -> Markup:
        """Every service with its rows; with a query those that match it, or have rows that do."""
        result = Markup("")
        for key in snapshot.lists["services"]:
            head, rows = snapshot.leaves[f"{key}-h"], [snapshot.leaves[row] for row in snapshot.lists[f"{key}-r"]]
            if not _matches(query, head.partition("</h2>")[0]):
                rows = [row for row in rows if _matches(query, row)]
                if query and not rows:
                    continue
            shell = str(snapshot.leaves[key]).replace(f'<div id="{key}-h"></div>', str(head), 1)
            result += Markup(shell.replace("></tbody>", f">{''.join(rows)}</tbody>", 1))  # noqa: S704 - templates'
        return result

    def _head(self, key: str, service: Service, figures: Figures, *, whole: bool) -> str:
        counts = [(service.count(state), state.value, _colour(state)) for state in State if service.count(state)]
        items = _items(service, figures) if service.work is not None else []
        return str(self._parts.head(key, service, service.level, counts, items, whole))

    def _seats(self, service: Service, figures: Figures, leaves: dict[str, str], *, whole: bool) -> tuple[str, ...]:
        """The rows of a service, put into `leaves`; returns their ids."""
        keys = []
        for seat in service.seats:
            key = element_id(seat.service, seat.id)
            cells = _cells(seat, figures.rate)
            known = self._rows.get((key, whole))
            if known is None or known[0] != (seat, cells):
                html = str(self._parts.row(key, seat, seat.level, cells, whole))
                known = self._rows[key, whole] = ((seat, cells), html)
            leaves[key] = known[1]
            keys.append(key)
        return tuple(keys)

    def _forget_rows(self) -> None:
        if len(self._rows) > KEPT_ROWS:
            self._rows.clear()


def _colour(state: State) -> str:
    return "" if state is State.UP else {State.DRAINING: "amber", State.REMOVED: "amber"}.get(state, "red")


def _cells(seat: Seat, rate: Rate) -> tuple[tuple[str, str], ...]:
    """The numbers of a row, each with its column's class."""
    if seat.work is None:
        return tuple((name, wording.UNKNOWN) for name in ("open", "rate", "bytes", "failed"))
    begun, sent, _ = rate((seat.service, seat.id)) or (None, None, None)
    return (
        ("open", wording.figure(seat.work.active)),
        ("rate", wording.figure(begun)),
        ("bytes", wording.size(sent)),
        ("failed", wording.figure(seat.work.failed)),
    )


def _items(service: Service, figures: Figures) -> list[tuple[object, ...]]:
    """The four figures of a service with their plots: name, plot, value, peak, colour."""
    series = figures.series(service.name)
    begun, sent, failed = figures.rate(service.name) or _last(series)
    work = service.work or Work()

    def drawn(values: Sequence[float | None]) -> plots.Plot | None:
        return plots.plot(values) if series else None

    rows = (
        ("open", series.active if series else (), wording.figure(work.active), wording.figure),
        ("new/s", series.begun if series else (), wording.figure(begun), wording.figure),
        ("bytes/s", series.bytes if series else (), wording.size(sent), wording.size),
        ("failures/s", series.failed if series else (), wording.figure(failed), wording.figure),
    )
    result: list[tuple[object, ...]] = []
    for name, values, value, words in rows:
        made = drawn(values)
        bad = name == "failures/s" and made is not None and made.peak > 0
        result.append((name, made, value, words(made.peak) if made else "", "red" if bad else ""))
    return result


def _last(series: Series | None) -> tuple[float | None, float | None, float | None]:
    return (series.begun[-1], series.bytes[-1], series.failed[-1]) if series else (None, None, None)


def _summary(fleet: Fleet, figures: Figures) -> list[tuple[str, str, str]]:
    """The line above all: name, value, colour."""
    states = [seat.state for service in fleet.services for seat in service.seats]
    tally = {state: states.count(state) for state in State}
    counts = [(state.value, str(tally[state]), _level(state) if tally[state] else "unknown") for state in State]
    rates = [figures.rate(service.name) or _last(figures.series(service.name)) for service in fleet.services]
    lines = [("services", str(len(fleet.services)), "")]
    lines += [line for line in counts if line[1] != "0" or line[0] == "up"]
    if any(service.work for service in fleet.services):
        lines.append(
            ("open", wording.figure(sum(service.work.active for service in fleet.services if service.work)), "")
        )
        lines.append(("new/s", wording.figure(_sum(rate[0] for rate in rates)), ""))
        lines.append(("bytes/s", wording.size(_sum(rate[1] for rate in rates)), ""))
    if fleet.etcd is not None:
        calm = fleet.etcd.connected and fleet.etcd.watching
        lines.append(("etcd", "current" if calm else "stale" if fleet.etcd.connected else "away", _health(calm)))
    return lines


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _level(state: State) -> str:
    return {State.UP: Level.GREEN, State.DRAINING: Level.AMBER, State.REMOVED: Level.AMBER}.get(state, Level.RED).value


def _health(calm: bool) -> str:
    return (Level.GREEN if calm else Level.RED).value


def _matches(query: str, html: str) -> bool:
    """Whether a text contains every word of the query, whatever their case."""
    if not query:
        return True
    text = re.sub(r"<[^>]*>", " ", html).casefold()
    return all(str(escape(word)).casefold() in text for word in query.split())


def _age(moment: int, at: float) -> str:
    return wording.age(at - moment) if moment >= 0 else wording.age(-moment - at)


def _clock(at: float) -> str:
    """The moment of a page, in UTC, for whoever has no script that says more."""
    minutes, seconds = divmod(int(at) % 86400, 60)
    return f"as of {minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d} UTC"
