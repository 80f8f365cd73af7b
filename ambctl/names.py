"""Names as an operator types them. Pure."""

from __future__ import annotations

import contextlib

from ambcore.errors import RecordError
from ambcore.history import KeyValue, Listed
from ambcore.model import MAX_INSTANCE, MAX_SERVICE, check_name
from ambcore.schema import decode_record, split_key


def parse_service(text: str) -> str:
    """A service's name; raises ValueError."""
    return check_name("service", text, MAX_SERVICE)


def parse_instance(text: str) -> str:
    """An instance's name; raises ValueError."""
    return check_name("instance", text, MAX_INSTANCE)


def keeper(item: KeyValue, prefix: str) -> str | None:
    """Who keeps a record by a lease; None for one that was written by hand."""
    try:
        return decode_record(item.key, item.value, prefix).owner if item.lease else None
    except RecordError:
        return None


def services(listed: Listed, prefix: str) -> list[str]:
    """The services that keys under the prefix name, sorted; keys of another shape name none."""
    found = set()
    for item in listed.items:
        with contextlib.suppress(RecordError):
            found.add(split_key(item.key, prefix)[0])
    return sorted(found)
