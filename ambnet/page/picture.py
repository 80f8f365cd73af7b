"""Who talks to whom: ambassadors with their consumers, services, instances, hosts; four columns of a drawing.

Geometry only, the template makes SVG of it. Pure. Where there is too much to draw, instances are put together by their
hosts, and the rest is counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from ambcore.findings import Level
from ambnet.page.model import Fleet, Seat, Service

WIDTH = 1000
LINE = 34  # from one box to the next
TALL = 26  # a box
TOP = 30  # for the columns' titles
BOX = 190  # a box's width
COLUMNS = (0, 270, 540, 810)
TITLES = ("ambassadors", "services", "instances", "hosts")
LETTERS = 24  # that fit into a box
MOST = 24  # services drawn
MOST_SINGLE = 36  # instances drawn one by one
MOST_BOXES = 60  # of any other column


@dataclass(frozen=True, slots=True)
class Box:
    """One who talks. `more` is a second, quieter word; `of` the service it leads to, if any."""

    x: int
    y: float
    name: str
    more: str
    level: Level
    title: str
    of: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection: SVG path data, and whether somebody talks over it now."""

    path: str
    level: Level
    busy: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """The drawing; `left_out` says what there was no room for."""

    height: int
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    titles: tuple[tuple[int, str], ...]
    left_out: str


@dataclass(frozen=True, slots=True)
class _Node:
    key: Hashable
    name: str
    more: str
    level: Level
    title: str
    of: str = ""


def picture(fleet: Fleet) -> Picture | None:
    """The drawing of a fleet; None where there is nothing to draw."""
    services = fleet.services[:MOST]
    if not services:
        return None
    singly = sum(len(service.seats) for service in services) <= MOST_SINGLE
    columns = (
        _ambassadors(fleet, services),
        [_service(service) for service in services],
        [node for service in services for node in _instances(service, singly)],
        _hosts(services),
    )
    cut = [column[:MOST_BOXES] for column in columns]
    height = TOP + LINE * max(map(len, cut))
    boxes: dict[Hashable, Box] = {}
    for x, column in zip(COLUMNS, cut, strict=True):
        free = (height - TOP) / max(len(column), 1)
        for place, node in enumerate(column):
            y = TOP + free * place + (free - TALL) / 2
            name = node.name if len(node.name) <= LETTERS else f"{node.name[: LETTERS - 1]}…"
            boxes[x, node.key] = Box(x, round(y, 1), name, node.more, node.level, node.title, node.of)
    left = len(fleet.services) - len(services)
    hidden = sum(len(column) for column in columns) - len(boxes)
    words = [f"{left} more services"] * bool(left) + [f"{hidden} more boxes"] * bool(hidden)
    titles = tuple((x, title) for x, title, column in zip(COLUMNS, TITLES, cut, strict=True) if column)
    return Picture(height, tuple(boxes.values()), tuple(_wires(services, boxes, singly)), titles, " and ".join(words))


def _ambassadors(fleet: Fleet, services: tuple[Service, ...]) -> list[_Node]:
    """The proxies that stand for these services, with whom they do it for."""
    programs = {program.name: program for program in fleet.programs}
    nodes: dict[str, _Node] = {}
    for stand in (stand for service in services for stand in service.stands):
        consumers = sorted({each.name for each in fleet.consumers if each.program == stand.program})
        program = programs.get(stand.program)
        what = f"for {', '.join(consumers[:20])}" if consumers else "for whoever connects"
        more = f"for {len(consumers)}" if len(consumers) > 1 else f"for {consumers[0][:12]}" if consumers else ""
        level = program.level if program else Level.UNKNOWN
        nodes[stand.program] = _Node(stand.program, stand.host or stand.program, more, level, f"{stand.program} {what}")
    return list(nodes.values())


def _service(service: Service) -> _Node:
    total = len(service.seats)
    return _Node(
        service.name, service.name, str(total), service.level, f"{service.name}: {total} instances", service.name
    )


def _instances(service: Service, singly: bool) -> list[_Node]:
    """One node each, or one for all of a host."""
    if singly:
        return [
            _Node(
                (service.name, seat.id),
                seat.id,
                "",
                seat.level,
                f"{seat.id} at {seat.address}: {seat.state}",
                service.name,
            )
            for seat in service.seats
        ]
    groups = _by_host(service.seats)
    return [
        _Node(
            (service.name, host),
            f"{len(seats)} instances",
            "",
            _mixed(seats),
            f"{len(seats)} instances of {service.name} on {host}",
            service.name,
        )
        for host, seats in groups.items()
    ]


def _hosts(services: tuple[Service, ...]) -> list[_Node]:
    groups = _by_host(seat for service in services for seat in service.seats)
    return [
        _Node(host, host or "?", str(len(seats)), _mixed(seats), f"{host}: {len(seats)} instances")
        for host, seats in sorted(groups.items())
    ]


def _mixed(seats: Iterable[Seat]) -> Level:
    """Of several together: red if all are, amber if some are not green."""
    levels = {seat.level for seat in seats}
    return Level.AMBER if len(levels) > 1 else next(iter(levels), Level.UNKNOWN)


def _worst(levels: Iterable[Level]) -> Level:
    found = set(levels)
    return next((level for level in (Level.RED, Level.AMBER, Level.UNKNOWN) if level in found), Level.GREEN)


def _by_host(seats: Iterable[Seat]) -> dict[str, list[Seat]]:
    groups: dict[str, list[Seat]] = {}
    for seat in seats:
        if seat.host:  # that of a refused record is not known
            groups.setdefault(seat.host, []).append(seat)
    return groups


def _wires(services: tuple[Service, ...], boxes: dict[Hashable, Box], singly: bool) -> list[Wire]:
    """From each to whom it talks to; only between boxes that were drawn."""
    wires: dict[tuple[Hashable, Hashable], tuple[Level, bool]] = {}
    first, second, third, last = COLUMNS

    def join(start: Hashable, end: Hashable, level: Level, busy: bool) -> None:
        known = wires.get((start, end))
        wires[start, end] = (_worst((level, known[0])), busy or known[1]) if known else (level, busy)

    for service in services:
        for stand in service.stands:
            level = Level.GREEN if stand.known and stand.watching else Level.AMBER
            join((first, stand.program), (second, service.name), level, stand.work.active > 0)
        for seat in service.seats:
            node = (third, (service.name, seat.id if singly else seat.host))
            if not singly and not seat.host:
                continue
            busy = seat.work is not None and seat.work.active > 0
            join((second, service.name), node, seat.level, busy)
            join(node, (last, seat.host), seat.level, busy)
    return [
        Wire(_curve(boxes[start], boxes[end]), level, busy)
        for (start, end), (level, busy) in wires.items()
        if start in boxes and end in boxes
    ]


def _curve(start: Box, end: Box) -> str:
    x1, y1 = start.x + BOX, start.y + TALL / 2
    x2, y2 = end.x, end.y + TALL / 2
    middle = (x1 + x2) / 2
    return f"M{x1} {y1:.1f}C{middle:.0f} {y1:.1f} {middle:.0f} {y2:.1f} {x2} {y2:.1f}"
