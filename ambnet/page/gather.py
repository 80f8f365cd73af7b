"""From what programs and etcd say to what the page shows. Pure; what they say is hostile until it has been read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ambcore.findings import Level
from ambcore.model import Instance
from ambcore.text import visible
from ambnet.page.documents import Document, count, number, part, parts, text, texts
from ambnet.page.history import LOST
from ambnet.page.model import (
    Consumer,
    EtcdSight,
    Fleet,
    Notice,
    Program,
    Record,
    Said,
    Seat,
    Service,
    Sight,
    Stand,
    State,
    Unregistered,
    Work,
)

MOST_SERVICES = 2000  # of one program
MOST_SEATS = 20_000  # instances on one page
MOST_LINES = 500  # of each of the smaller lists
SHORT_ID = 12  # characters of a container's id, as Docker shows it
STALE = 20.0  # seconds; a proof that the view is current comes every 10 or 15

Key = tuple[str, str]


@dataclass(slots=True)
class _Board:
    """What is being gathered."""

    seats: dict[Key, Seat] = field(default_factory=dict)
    ejected: dict[Key, dict[str, list[str]]] = field(default_factory=dict)  # by whom, under why
    stands: dict[str, list[Stand]] = field(default_factory=dict)
    consumers: list[Consumer] = field(default_factory=list)
    unregistered: list[Unregistered] = field(default_factory=list)


def fleet(sight: Sight) -> Fleet:
    """Everything that the page shows of a moment."""
    board = _Board()
    for record in sight.records or ():
        if len(board.seats) < MOST_SEATS:
            seat = _recorded(record, sight)
            board.seats[seat.service, seat.id] = seat
    for said in sight.said:
        document: Document = said.document or {}
        if text(document, "program", said.kind) == "registrar":
            _of_registrar(board, said, document, sight.records is None)
        else:
            for service in parts(document, "services", MOST_SERVICES):
                _of_proxy(board, said, service, sight)
            _of_links(board, said, part(document, "links"))
        if said.document is None:
            _announced(board, said)
    for key, reasons in board.ejected.items():
        seat = board.seats[key]
        if seat.state is not State.REFUSED:
            board.seats[key] = replace(seat, state=State.EJECTED, why=_told(reasons))
    etcd = sight.etcd or _etcd_of(sight.said)
    return Fleet(
        services=_services(board),
        programs=tuple(_program(said, sight.at) for said in sight.said),
        consumers=tuple(dict.fromkeys(board.consumers)),
        unregistered=tuple(dict.fromkeys(board.unregistered)),
        notices=tuple(_notices(sight, etcd)),
        etcd=etcd,
    )


def host_of(owner: str | None, address: str) -> str:
    """The host of an instance: its record's owner as in `core-01:4J2KQ7LHVXQ3`, else its address without the port."""
    if owner:
        return owner.partition(":")[0] or owner
    return address.rpartition(":")[0].strip("[]") or address


def _recorded(record: Record, sight: Sight) -> Seat:
    """An instance as its record says."""
    found, item = record.found, record.item
    if not isinstance(found, Instance):
        service, _, name = visible(item.key.decode(errors="replace")).rpartition("/")
        return Seat(service.rpartition("/")[2] or service, name, state=State.REFUSED, why=visible(found))
    until = sight.leases.get(item.lease)
    notes = ", ".join([*found.tags, *(f"{name}={value}" for name, value in found.attributes)])
    return Seat(
        found.service,
        found.id,
        str(found.address),
        State.UP if found.takes_new else State.DRAINING,
        visible(record.why),
        host=host_of(found.owner, str(found.address)),
        protocol=found.protocol.value,
        weight=found.weight,
        until=None if until is None else round(until),
        leased=item.lease != 0,
        container=(found.container or "")[:SHORT_ID],
        notes=visible(notes[:200]),
    )


def _of_registrar(board: _Board, said: Said, document: Document, alone: bool) -> None:
    """What a registrar holds, on its own page, and what it does not register."""
    host = said.host
    held: list[Any] = list(parts(document, "registered", MOST_SEATS))
    if one := part(document, "held"):
        held.append({**one, "service": document.get("service"), "container": part(document, "container").get("name")})
    for row in held if alone else ():
        address = text(row, "address")
        seat = Seat(
            text(row, "service"),
            text(row, "id"),
            address,
            _readiness(row),
            host=host_of(text(row, "owner"), address),
            protocol=text(row, "protocol", "tcp"),
            container=text(row, "container"),
        )
        board.seats[seat.service, seat.id] = seat
    for row in parts(document, "not_registered", MOST_LINES):
        board.unregistered.append(Unregistered(text(row, "container"), text(row, "why"), host))
    if why := text(part(document, "container"), "why"):
        board.unregistered.append(Unregistered(text(part(document, "container"), "name"), why, host))


def _of_proxy(board: _Board, said: Said, service: Document, sight: Sight) -> None:
    """One service as a proxy stands for it: its instances are added to what is known of them."""
    name = text(service, "name")
    alone = sight.records is None
    work = Work()
    for row in parts(service, "instances", MOST_SEATS):
        key = (name, text(row, "id"))
        did = _work(row)
        work += did
        seat = board.seats.get(key)
        if seat is None:
            if not alone or len(board.seats) >= MOST_SEATS:
                continue  # etcd has the last word on what there is
            seat = _seen(name, row)
        since = number(row, "since")
        since = None if since is None else round(since)
        known = [moment for moment in (seat.since, since) if moment is not None]
        board.seats[key] = replace(
            seat,
            since=min(known, default=None),
            work=did if seat.work is None else seat.work + did,
            check=seat.check or text(part(row, "check"), "state"),
        )
        if row.get("state") == "ejected":
            reasons = board.ejected.setdefault(key, {})
            reasons.setdefault(_why(row), []).append("" if alone else said.host or said.name)
    for row in parts(service, "removed", MOST_LINES):
        _removed(board, (name, text(row, "id")), count(row, "connections"))
    if alone:
        for row in parts(service, "refused", MOST_LINES):
            _refused(board, name, text(row, "key"), text(row, "why"))
    board.stands.setdefault(name, []).append(_stand(said, service, work))


def _announced(board: _Board, said: Said) -> None:
    """What a proxy that cannot be asked announces not to reach."""
    for one in said.unreachable:
        if (one.service, one.instance) in board.seats:
            reasons = board.ejected.setdefault((one.service, one.instance), {})
            reasons.setdefault(one.why, []).append(said.host or said.name)


def _refused(board: _Board, service: str, record: str, why: str) -> None:
    """A refused record. The last good one under its key may be in use still, so it has a line of its own then."""
    key = (service, record.rpartition("/")[2])
    if key in board.seats:
        board.seats[key] = replace(board.seats[key], why=f"its newer record is refused: {why}")
    else:
        board.seats[key] = Seat(*key, state=State.REFUSED, why=why)


def _removed(board: _Board, key: Key, connections: int) -> None:
    """An instance without a record, whose connections go on."""
    seat = board.seats.get(key) or Seat(*key, state=State.REMOVED, why="no record any more; open connections go on")
    if seat.state is State.REMOVED:
        board.seats[key] = replace(seat, work=(seat.work or Work()) + Work(active=connections))


def _seen(service: str, row: Document) -> Seat:
    """An instance as a proxy sees it."""
    address = text(row, "address")
    return Seat(
        service,
        text(row, "id"),
        address,
        _readiness(row),
        _drained(part(row, "drained")) or _held(part(row, "held")),
        host=host_of(text(row, "owner"), address),
        protocol=text(row, "protocol", "tcp"),
        weight=count(row, "weight") or 1,
    )


def _drained(drain: Document) -> str:
    """Who drained an instance and why, in words; empty where nobody did."""
    return drained_by(text(drain, "by"), text(drain, "why"), text(drain, "host")) if drain else ""


def _held(hold: Document) -> str:
    """Why an instance without a record is served; empty for others."""
    return f"served on though its record is gone: {text(hold, 'why')}" if hold else ""


def drained_by(who: str, why: str, host: str) -> str:
    """An operator's marker in words."""
    what = f"drained with host {host}" if host else "drained"
    return f"{what}{f' by {who}' if who else ''}{f': {why}' if why else ''}"


def _readiness(row: Document) -> State:
    return State.DRAINING if row.get("state") == "draining" else State.UP


def _work(row: Document) -> Work:
    return Work(
        count(row, "connections"),
        count(row, "connections_total"),
        count(row, "connect_failures"),
        count(row, "bytes_in") + count(row, "bytes_out"),
    )


def _why(row: Document) -> str:
    """Why an instance is asked last."""
    if why := text(part(row, "check"), "why"):
        return why
    return "refuses connections" if row.get("refusing") else "did not answer its last clients"


def _told(reasons: Mapping[str, Sequence[str]]) -> str:
    """Every reason with those who say so, where that is to be said: `refused (app-01, app-02)`."""
    return "; ".join(f"{why} ({', '.join(who)})" if any(who) else why for why, who in reasons.items())


def _stand(said: Said, service: Document, work: Work) -> Stand:
    kernel, counters = part(service, "kernel"), part(service, "counters")
    parked = count(service, "parked")
    return Stand(
        said.name,
        said.host,
        texts(service, "ports", 20),
        text(service, "plane"),
        text(service, "plane_why"),
        text(service, "policy"),
        _watching(service),
        number(service, "view_age"),
        count(service, "revision"),
        parked,
        work
        + Work(0, count(kernel, "connections"), sum(count(counters, name) for name in LOST), count(kernel, "bytes")),
        service.get("instances") is not None,
    )


def _watching(service: Document) -> bool:
    """Whether every change of a service arrives, or nobody has to watch for one."""
    watch = service.get("watch")
    return watch is None or watch == "watching"


def _of_links(board: _Board, said: Said, links: Document) -> None:
    """For whom a proxy listens, and what it was asked for in vain."""
    for row in parts(links, "listeners", MOST_LINES):
        service = text(row, "service")
        board.consumers += [Consumer(name, service, said.name) for name in texts(row, "for", MOST_LINES)]
        if row.get("open") is False and (why := text(row, "why")):
            board.unregistered.append(Unregistered(f"link to {service}", why, said.host))
    for row in parts(links, "refused", MOST_LINES):
        board.unregistered.append(Unregistered(text(row, "container"), text(row, "why"), said.host))


def _services(board: _Board) -> tuple[Service, ...]:
    """Seats and stands by service, both in the order of names."""
    seats: dict[str, list[Seat]] = {}
    for key in sorted(board.seats):
        seats.setdefault(key[0], []).append(board.seats[key])
    result = []
    for name in sorted(seats.keys() | board.stands.keys()):
        stands = board.stands.get(name, [])
        work = Work() if stands else None
        for stand in stands:
            work = (work or Work()) + stand.work
        parked = sum(stand.parked for stand in stands)
        result.append(Service(name, tuple(seats.get(name, ())), tuple(stands), work, parked))
    return tuple(result)


def _program(said: Said, at: float) -> Program:
    document: Document = said.document or {}
    uptime = number(document, "uptime")
    if said.document is None:
        level, says = (Level.RED, said.error) if said.error else (Level.UNKNOWN, "not asked yet")
    elif said.error:
        level, says = Level.RED, said.error
    elif document.get("ready") is False:
        level, says = Level.AMBER, "not ready"
    else:
        level, says = Level.GREEN, _summary(document)
    since = None if uptime is None else round((at - uptime) / 2) * 2  # to two seconds: rounding shall be no news
    return Program(
        said.name,
        said.kind or text(document, "program", "?"),
        said.host,
        said.version or text(document, "version"),
        said.admin,
        level,
        visible(says[:300]),
        since,
    )


def _summary(document: Document) -> str:
    """How a program works, in a few words."""
    if text(document, "program") == "registrar":
        records = len(list(parts(document, "registered", MOST_SEATS))) or int(bool(part(document, "held")))
        return f"keeps {records} record{'s' if records != 1 else ''}"
    plane = part(document, "plane")
    name = text(plane, "name")
    return f"{name} plane: {text(plane, 'why')}" if name else "ready"


def _etcd_of(every: tuple[Said, ...]) -> EtcdSight | None:
    """How a program that is alone on its page sees etcd."""
    for said in every:
        document: Document = said.document or {}
        if etcd := part(document, "etcd"):
            services = list(parts(document, "services", MOST_SERVICES))
            watching = all(map(_watching, services))
            age = number(etcd, "view_age")
            return EtcdSight(
                text(etcd, "endpoint"), etcd.get("connected") is True, text(etcd, "last_error"), age, watching
            )
    return None


def _notices(sight: Sight, etcd: EtcdSight | None) -> Iterator[Notice]:
    """What has to be said before everything else, the worst first."""
    if etcd is not None:
        yield from _of_etcd(etcd, sight.at)
    for said in sight.said:
        document: Document = said.document or {}
        who = f"{said.host or said.name}: " if len(sight.said) > 1 else ""
        if said.document is None and said.error:
            what = f"{said.kind or 'program'} {said.name}"
            yield Notice(Level.RED, f"{what} cannot be asked: {visible(said.error[:300])}")
        elif said.error:
            yield Notice(Level.RED, f"{who}{visible(said.error[:300])}")
        docker, kernel = part(document, "docker"), part(part(document, "plane"), "kernel")
        if docker and docker.get("connected") is False:
            yield Notice(Level.AMBER, f"{who}Docker does not answer: {text(docker, 'last_error', 'no reason given')}")
        if error := text(kernel, "error"):
            yield Notice(Level.AMBER, f"{who}the kernel's rules could not be changed: {error}")


def _of_etcd(etcd: EtcdSight, at: float) -> Iterator[Notice]:
    proven = None if etcd.age is None else round((at - etcd.age) / 2) * 2
    known = "what is shown was known then, and traffic goes on" if proven else "nothing is known yet"
    if not etcd.connected:
        why = f" ({etcd.error})" if etcd.error else ""
        yield Notice(Level.RED, f"etcd does not answer at {etcd.endpoint}{why}: {known}. Last proven current", proven)
    elif not etcd.watching or (etcd.age is not None and etcd.age > STALE):
        yield Notice(Level.AMBER, f"The view of etcd is not current: {known}. Last proven current", proven)
