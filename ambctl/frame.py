"""A frame of `ambctl top`: services and instances, what they carry now, and who could not be asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ambcore.findings import Level
from ambcore.text import visible
from ambctl import draw
from ambctl.paper import Paper
from ambctl.render import Cell, Column, Shade
from ambnet.page.flows import flows
from ambnet.page.history import Rates
from ambnet.page.model import LEVELS, Fleet, Seat, Service, State

KERNEL = "kernel"  # the name of a plane

COLUMNS = (
    Column("SERVICE / INSTANCE"),
    Column("STATE", firm=True),
    Column("HOST", spare=3),
    Column("OPEN", firm=True, right=True),
    Column("NEW/s", firm=True, right=True),
    Column("BYTES/s", firm=True, spare=2, right=True),
    Column("FAILED/s", firm=True, spare=1, right=True),
)

PLAIN_COLUMNS = tuple(map(Column, ("SERVICE", "INSTANCE", "STATE", "HOST", "OPEN", "NEW/s", "BYTES/s", "FAILED/s")))


class Flow(NamedTuple):
    """What was carried: connections open now, and begun, bytes and failures a second; None where it is not known."""

    active: int | None = None
    begun: float | None = None
    bytes: float | None = None
    failed: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A service or, with `seat`, one of its instances."""

    service: Service
    flow: Flow
    seat: Seat | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """All that is shown of a moment, `at` in seconds since 1970: services by what they carry, and their instances."""

    fleet: Fleet
    at: float
    lines: tuple[Line, ...]


@dataclass(slots=True)
class Watching:
    """Makes frames, each with what happened since the ones before it."""

    _rates: Rates = field(default_factory=Rates)

    def frame(self, fleet: Fleet, at: float, now: float) -> Frame:
        """The next frame; `now` is the time of a clock that only goes forward."""
        rate = flows(self._rates, now, fleet)

        def of_service(service: Service) -> Flow:
            active = service.work.active if service.work and not _by_kernel(service) else None
            return Flow(active, *rate(service.name))

        def of_seat(service: Service, seat: Seat) -> Flow:
            if seat.work is None or _by_kernel(service):
                return Flow()
            return Flow(seat.work.active, *rate((seat.service, seat.id)))

        return Frame(fleet, at, tuple(_sorted(fleet, of_service, of_seat)))


def _by_kernel(service: Service) -> bool:
    """Whether the kernel carries some of it: it counts what begins, for all instances together. What the relay carries
    besides would be a part that says nothing.
    """
    return any(stand.plane == KERNEL for stand in service.stands)


def _sorted(
    fleet: Fleet, of_service: Callable[[Service], Flow], of_seat: Callable[[Service, Seat], Flow]
) -> list[Line]:
    lines = []
    for top in sorted((Line(service, of_service(service)) for service in fleet.services), key=_busy):
        lines.append(top)
        seats = (Line(top.service, of_seat(top.service, seat), seat) for seat in top.service.seats)
        lines += sorted(seats, key=_busy)
    return lines


def _busy(line: Line) -> tuple[float, float, int, str]:
    """The busiest first, by names where they are equal."""
    name = line.seat.id if line.seat else line.service.name
    return -(line.flow.begun or 0), -(line.flow.bytes or 0), -(line.flow.active or 0), name


# For people


def lines(frame: Frame, paper: Paper, height: int | None = None) -> list[str]:
    """The frame on paper, of at most `height` lines; for programs, the table alone."""
    if paper.plain:
        return draw.table(PLAIN_COLUMNS, [_plain_row(line) for line in frame.lines], paper)
    said = draw.notices(_notices(frame), paper)
    if height is not None:
        said = said[: max(height // 3, 1)]  # what they are said of shall be seen, too
    shown = [_title(frame, paper), *said, ""]
    rows = [_row(line) for line in frame.lines[:height]]  # drawing what nobody sees is most of the work
    table = draw.table(COLUMNS, rows, paper, cut=True) if rows else ["no services"]
    if height is not None and len(shown) + len(table) > height:
        room = max(height - len(shown) - 1, 1)
        table = [*table[:room], f"and {len(frame.lines) + 1 - room} lines more"]
    return (shown + table)[:height]


def notices(frame: Frame) -> list[str]:
    """What has to be said beside the table."""
    return [text for _, text in _notices(frame)]


def _notices(frame: Frame) -> list[tuple[Level, str]]:
    found = [(notice.level, notice.text) for notice in frame.fleet.notices]
    if not frame.fleet.programs:
        found.append((Level.AMBER, "no program has announced itself: nothing is known of connections"))
    return found


def _title(frame: Frame, paper: Paper) -> str:
    fleet = frame.fleet
    heard = sum(program.level is not Level.RED for program in fleet.programs)
    clock = time.strftime("%H:%M:%S", time.localtime(frame.at))
    etcd = f"etcd {fleet.etcd.endpoint}" if fleet.etcd else ""
    title = "  ".join(filter(None, (f"ambctl top  {clock}", etcd, f"{heard} program{'' if heard == 1 else 's'} asked")))
    return title[: paper.width] if paper.width else title


def _row(line: Line) -> tuple[Cell, ...]:
    service, seat, flow = line.service, line.seat, line.flow
    failed = _rate(flow.failed)
    carried = _whole(flow.active), _rate(flow.begun), _size(flow.bytes)
    figures = *carried, Shade(failed, Level.RED) if flow.failed else failed
    if seat is None:
        up = f"{service.count(State.UP)} of {len(service.seats)} up"
        return visible(service.name), Shade(up, service.level), "", *figures
    return f"  {visible(seat.id)}", Shade(seat.state.value, LEVELS[seat.state]), visible(seat.host), *figures


def _plain_row(line: Line) -> tuple[Cell, ...]:
    """Words without blanks and plain numbers; a dash stands for all instances, and for what is not known."""
    service, seat, flow = line.service, line.seat, line.flow
    figures = ("-" if value is None else f"{value:.1f}".removesuffix(".0") for value in flow)
    if seat is None:
        return visible(service.name), "-", f"{service.count(State.UP)}/{len(service.seats)}", "-", *figures
    return visible(service.name), visible(seat.id), seat.state.value, visible(seat.host) or "-", *figures


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _rate(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"


def _size(value: float | None) -> str:
    """`1.4 MiB`, in the largest unit that leaves a number above one."""
    if value is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


# As JSON


def document(frame: Frame) -> dict[str, Any]:
    """The frame as one document; connections and failures are numbers, rates are a second, null where unknown."""
    services: list[dict[str, Any]] = []
    for line in frame.lines:
        if line.seat is None:
            one: dict[str, Any] = {"name": line.service.name, "level": line.service.level.value, **_figures(line.flow)}
            services.append(one | {"instances": []})
        else:
            about: dict[str, Any] = {
                "id": line.seat.id,
                "state": line.seat.state.value,
                "host": line.seat.host,
                "why": line.seat.why,
            }
            services[-1]["instances"].append(about | _figures(line.flow))
    programs = [
        {"id": each.name, "kind": each.kind, "host": each.host, "asked": each.level is not Level.RED, "says": each.says}
        for each in frame.fleet.programs
    ]
    return {"at": round(frame.at, 3), "services": services, "programs": programs}


def _figures(flow: Flow) -> dict[str, float | None]:
    return {
        "connections": flow.active,
        "connections_per_second": _rounded(flow.begun),
        "bytes_per_second": _rounded(flow.bytes),
        "failures_per_second": _rounded(flow.failed),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
