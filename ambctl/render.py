"""Records and news as text for people and as JSON documents. Pure; its output never holds a control character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from ambcore.drains import Drains
from ambcore.errors import RecordError
from ambcore.findings import Level
from ambcore.fleet import Drain
from ambcore.model import Instance, Protocol
from ambcore.schema import split_key
from ambcore.table import Rejection, Table
from ambcore.text import visible
from ambctl.reach import Key, Sighting
from ambctl.view import Entry, News


class Shade(NamedTuple):
    """A text that says how something stands."""

    text: str
    level: Level


Cell = str | Shade


class Column(NamedTuple):
    """A table's column. Where there is no room, a `note` stands below its row, `spare` columns are left out, those
    with the highest number first, and a `firm` one is the last to be wrapped.
    """

    head: str
    firm: bool = False
    spare: int = 0
    note: bool = False
    right: bool = False


LISTING = (
    Column("SERVICE"),
    Column("INSTANCE"),
    Column("ADDRESS", firm=True),
    Column("STATE", firm=True),
    Column("WEIGHT", spare=1),
    Column("OWNER", spare=2),
    Column("NOTE", note=True),
)

Document = dict[str, Any]

NO_DRAINS = Drains()
NOBODY: Mapping[Key, tuple[Sighting, ...]] = {}
MOST_HOSTS = 10  # from which an instance cannot be reached, a line each


def key_text(key: bytes) -> str:
    """A key, whatever its bytes, as printable text."""
    return visible(key.decode(errors="backslashreplace"))


# For people


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines of columns, two blanks apart; a column with nothing below its head is left out.

    An empty cell is a dash where others follow it.
    """
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        last = max((number for number, cell in enumerate(cells) if cell), default=0)
        padded = [(cell or "-").ljust(width) for cell, width in zip(cells, widths, strict=True)]
        yield "  ".join(padded[: last + 1]).rstrip()


def listing(entries: Iterable[Entry], prefix: str, drains: Drains = NO_DRAINS) -> list[tuple[Cell, ...]]:
    """A row of LISTING for each record."""
    return [_row(entry, prefix, drains) for entry in entries]


def _row(entry: Entry, prefix: str, drains: Drains) -> tuple[Cell, ...]:
    if isinstance(entry.found, RecordError):
        service, name = _names(entry.item.key, prefix)
        return service, name, "", Shade("refused", Level.RED), "", "", visible(str(entry.found))
    one, note = _drained(entry.found, drains)
    return one.service, one.id, _address(one), _state(one), str(one.weight), visible(one.owner or ""), note


def _state(instance: Instance) -> Shade:
    return Shade(instance.readiness.value, Level.GREEN if instance.takes_new else Level.AMBER)


def _drained(instance: Instance, drains: Drains) -> tuple[Instance, str]:
    """The instance as operators want it, and a word about that where it is not what its record says."""
    (wanted,) = drains.over((instance,))
    if (marker := drains.hitting(instance)) is None or wanted is instance:
        return instance, ""
    return wanted, visible(f"{f'host {marker.host} drained' if marker.host else 'drained'}{_reason(marker)}")


def _reason(marker: Drain) -> str:
    by = f" by {marker.by}" if marker.by else ""
    return f"{by}: {marker.why}" if marker.why else by or " by an operator"


def _names(key: bytes, prefix: str) -> tuple[str, str]:
    """Service and instance of a key; a key of another shape stands in the first place as it is."""
    try:
        service, name = split_key(key, prefix)
    except RecordError:
        return key_text(key), ""
    return visible(service), visible(name)


def _address(instance: Instance) -> str:
    """As Docker writes it: `10.1.2.3:53/udp`, and nothing for TCP."""
    return f"{instance.address}{'/udp' if instance.protocol is Protocol.UDP else ''}"


def fields(
    entry: Entry,
    left: Mapping[int, int | None],
    drains: Drains = NO_DRAINS,
    seen: Mapping[Key, tuple[Sighting, ...]] = NOBODY,
) -> Iterator[tuple[str, Cell]]:
    """Each field of a record with its name; `left` are the seconds that leases have left, None for one that ended,
    `seen` says who cannot reach an instance.
    """
    if isinstance(entry.found, RecordError):
        yield "refused", Shade(visible(str(entry.found)), Level.RED)
        yield "lease", _lease(entry.item.lease, left)
        yield "revision", str(entry.item.revision)
        return
    one, note = _drained(entry.found, drains)
    yield "address", _address(one)
    yield "state", _state(one)
    if note:
        yield "note", note
    yield from _unreachable(seen.get((one.service, one.id), ()))
    yield "weight", str(one.weight)
    yield "lease", _lease(entry.item.lease, left)
    yield "revision", str(entry.item.revision)
    for name in ("owner", "epoch", "container"):
        if value := getattr(one, name):
            yield name, visible(value)
    if one.tags:
        yield "tags", visible(", ".join(one.tags))
    for name, value in one.attributes:
        yield "attribute", visible(f"{name} = {value}")


def _unreachable(seen: Sequence[Sighting]) -> Iterator[tuple[str, Cell]]:
    """From which hosts an instance cannot be reached, the longest first."""
    for one in seen[:MOST_HOSTS]:
        yield "unreachable", Shade(visible(f"from {one.host} since {one.since}: {one.why}"), Level.AMBER)
    if len(seen) > MOST_HOSTS:
        yield "unreachable", Shade(f"from {len(seen) - MOST_HOSTS} others, too", Level.AMBER)


def _lease(lease: int, left: Mapping[int, int | None]) -> Cell:
    if not lease:
        return "none: stays until it is removed"
    if lease not in left:
        return f"{lease:x}"
    seconds = left[lease]
    return Shade(f"{lease:x}, ended", Level.RED) if seconds is None else f"{lease:x}, {seconds} s left"


def news_lines(news: News) -> Iterator[str]:
    """News in the text form of tables: `+` came, `~` changed, `-` went, `!` was refused, `#` says what is known."""
    for instance in news.change.removed:
        yield f"- {_line(instance)}"
    for _, instance in news.change.changed:
        yield f"~ {_line(instance)}"
    for instance in news.change.added:
        yield f"+ {_line(instance)}"
    for rejection in news.refused:
        kept = "; its last good state stays" if rejection.kept else ""
        yield f"! {key_text(rejection.key)} {visible(str(rejection.error))}{kept}"
    if news.known is not None:
        yield f"# {news.known} instance{'' if news.known == 1 else 's'} known, watching"


def _line(instance: Instance) -> str:
    return str(Table.of([instance])).rstrip("\n")


# As JSON


def listing_document(entries: Sequence[Entry], prefix: str, revision: int, drains: Drains = NO_DRAINS) -> Document:
    """All records, by service."""
    services: dict[str, list[Document]] = {}
    for entry in entries:
        if isinstance(entry.found, Instance):
            services.setdefault(entry.found.service, []).append(_record(entry, entry.found, drains))
    return {"prefix": prefix, "revision": revision, "services": services, "refused": _refused(entries)}


def service_document(  # noqa: PLR0917 - what is known of them, in the order in which it is asked for
    entries: Sequence[Entry],
    service: str,
    revision: int,
    left: Mapping[int, int | None],
    drains: Drains = NO_DRAINS,
    seen: Mapping[Key, tuple[Sighting, ...]] = NOBODY,
) -> Document:
    """The records of one service, with the seconds that their leases have left, and who cannot reach them."""
    found = [
        _record(entry, entry.found, drains)
        | {
            "lease_left": left.get(entry.item.lease),
            "unreachable_from": [asdict(one) for one in seen.get((entry.found.service, entry.found.id), ())],
        }
        for entry in entries
        if isinstance(entry.found, Instance)
    ]
    return {"service": service, "revision": revision, "instances": found, "refused": _refused(entries)}


def _record(entry: Entry, instance: Instance, drains: Drains) -> Document:
    marker = drains.hitting(instance)
    return {
        **instance_document(instance),
        # Hexadecimal as etcdctl writes leases: many JSON readers round numbers of that size.
        "lease": f"{entry.item.lease:x}" if entry.item.lease else None,
        "revision": entry.item.revision,
        "drained": None if marker is None else visible(str(marker)),
    }


def instance_document(instance: Instance) -> Document:
    """Every field of an instance, defaults included."""
    return {
        "service": instance.service,
        "id": instance.id,
        "host": instance.address.host,
        "port": instance.address.port,
        "protocol": instance.protocol.value,
        "weight": instance.weight,
        "state": instance.readiness.value,
        "owner": instance.owner,
        "epoch": instance.epoch,
        "container": instance.container,
        "tags": list(instance.tags),
        "attributes": dict(instance.attributes),
    }


def _refused(entries: Iterable[Entry]) -> list[Document]:
    return [_refusal(entry.item.key, entry.found) for entry in entries if isinstance(entry.found, RecordError)]


def _refusal(key: bytes, error: RecordError) -> Document:
    return {"key": key_text(key), "reason": error.reason, "detail": visible(str(error))}


def news_documents(news: News) -> Iterator[Document]:
    """News as one document each; `known` comes once, when everything there is was told."""
    for instance in news.change.removed:
        yield {"event": "removed", "instance": instance_document(instance)}
    for was, instance in news.change.changed:
        yield {"event": "changed", "instance": instance_document(instance), "was": instance_document(was)}
    for instance in news.change.added:
        yield {"event": "added", "instance": instance_document(instance)}
    for rejection in news.refused:
        yield _rejection(rejection)
    if news.known is not None:
        yield {"event": "known", "instances": news.known}


def _rejection(rejection: Rejection) -> Document:
    return {"event": "refused", **_refusal(rejection.key, rejection.error), "kept": rejection.kept}
