"""Records and news as text for people and as JSON documents. Pure; its output never holds a control character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ambcore.errors import RecordError
from ambcore.model import Instance, Protocol
from ambcore.schema import split_key
from ambcore.table import Rejection, Table
from ambcore.text import visible
from ambctl.view import Entry, News

HEADS = ("SERVICE", "INSTANCE", "ADDRESS", "STATE", "WEIGHT", "OWNER", "NOTE")

Document = dict[str, Any]


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


def listing(entries: Iterable[Entry], prefix: str) -> Iterator[str]:
    """All records as one table."""
    return aligned([HEADS, *(_row(entry, prefix) for entry in entries)])


def _row(entry: Entry, prefix: str) -> tuple[str, ...]:
    if isinstance(entry.found, RecordError):
        service, name = _names(entry.item.key, prefix)
        return service, name, "", "refused", "", "", visible(str(entry.found))
    one = entry.found
    return one.service, one.id, _address(one), one.readiness.value, str(one.weight), visible(one.owner or ""), ""


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


def details(entries: Iterable[Entry]) -> Iterator[str]:
    """Each record as a block of its fields."""
    for number, entry in enumerate(entries):
        if number:
            yield ""
        yield key_text(entry.item.key)
        for name, value in _fields(entry):
            yield f"  {name:<10}  {visible(value)}"


def _fields(entry: Entry) -> Iterator[tuple[str, str]]:
    if isinstance(entry.found, RecordError):
        yield "refused", str(entry.found)
        return
    one = entry.found
    yield "address", _address(one)
    yield "state", one.readiness.value
    yield "weight", str(one.weight)
    yield "lease", f"{entry.item.lease:x}" if entry.item.lease else "none: stays until it is removed"
    for name in ("owner", "epoch", "container"):
        if value := getattr(one, name):
            yield name, value
    if one.tags:
        yield "tags", ", ".join(one.tags)
    for name, value in one.attributes:
        yield "attribute", f"{name} = {value}"


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


def listing_document(entries: Sequence[Entry], prefix: str, revision: int) -> Document:
    """All records, by service."""
    services: dict[str, list[Document]] = {}
    for entry in entries:
        if isinstance(entry.found, Instance):
            services.setdefault(entry.found.service, []).append(_record(entry, entry.found))
    return {"prefix": prefix, "revision": revision, "services": services, "refused": _refused(entries)}


def service_document(entries: Sequence[Entry], service: str, revision: int) -> Document:
    """The records of one service."""
    found = [_record(entry, entry.found) for entry in entries if isinstance(entry.found, Instance)]
    return {"service": service, "revision": revision, "instances": found, "refused": _refused(entries)}


def _record(entry: Entry, instance: Instance) -> Document:
    # Hexadecimal as etcdctl writes leases: many JSON readers round numbers of that size.
    return {**instance_document(instance), "lease": f"{entry.item.lease:x}" if entry.item.lease else None}


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
