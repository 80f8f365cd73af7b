"""What an operator wants to know of the records: those there are, and what changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ambcore.errors import RecordError
from ambcore.history import KeyValue, Listed, Message
from ambcore.model import Instance
from ambcore.table import Diff, Reader, Rejection, Table, diff, fold


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: read, or refused with a reason."""

    item: KeyValue
    found: Instance | RecordError


def entries(listed: Listed, reader: Reader) -> tuple[Entry, ...]:
    """Every record of a list as a proxy would judge it, in the order of the keys."""
    return tuple(Entry(item, _read(item, reader)) for item in sorted(listed.items, key=lambda item: item.key))


def _read(item: KeyValue, reader: Reader) -> Instance | RecordError:
    try:
        return reader.read(item)
    except RecordError as error:
        return error


@dataclass(frozen=True, slots=True)
class News:
    """What one message brought. `known` is the number of instances when it was the first, else None."""

    change: Diff
    refused: tuple[Rejection, ...] = ()
    known: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The records as far as they are known: nothing at first, which is not the same as none."""

    table: Table | None = None
    refused: Mapping[bytes, str] = field(default_factory=dict)

    def digest(self, message: Message, reader: Reader) -> tuple[Self, News]:
        """The view after a message, and its news. A refusal is news once, not at every list that repeats it."""
        before = self.table or Table()
        after, rejections = fold(before, message, reader)
        fresh = tuple(each for each in rejections if self.refused.get(each.key) != str(each.error))
        mentioned = set() if isinstance(message, Listed) else {event.key for event in message.events}
        kept = {} if isinstance(message, Listed) else {k: why for k, why in self.refused.items() if k not in mentioned}
        refused = kept | {each.key: str(each.error) for each in rejections}
        news = News(diff(before, after), fresh, len(after) if self.table is None else None)
        return type(self)(after, refused), news
