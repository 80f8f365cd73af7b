"""What a container says of its services in labels and environment variables, by registrator's conventions.

`SERVICE_NAME`, `SERVICE_TAGS`, `SERVICE_ID` and `SERVICE_IGNORE` have meanings, any other `SERVICE_X` is an attribute
`x`. `SERVICE_<port>_X` is for one port inside the container and beats `SERVICE_X`; of two for the same, the label beats
the variable. An empty value is a value: it takes back what the more general one says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "SERVICE_"
MEANINGS = ("name", "tags", "id", "ignore")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What was said of one port; empty where nothing was. `own_name`: the name was given for this very port."""

    name: str = ""
    own_name: bool = False
    id: str = ""
    ignored: bool = False
    tags: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


def metadata(config: Mapping[str, Any], port: int) -> Metadata:
    """What a container's `Config` says of a port inside it."""
    general: dict[str, str] = {}
    specific: dict[str, str] = {}
    for key, value in _said(config):
        number, underscore, rest = key.partition("_")
        if not (number.isdecimal() and underscore):
            general[key] = value
        elif number == str(port):
            specific[rest] = value
    found = {**general, **specific}
    return Metadata(
        name=found.get("name", ""),
        own_name=bool(specific.get("name")),
        id=found.get("id", ""),
        ignored=bool(found.get("ignore")),  # `false` ignores, too: that is how registrator reads it
        tags=split_tags(found.get("tags", "")),
        attributes=tuple(sorted((key, value) for key, value in found.items() if key and key not in MEANINGS)),
    )


def _said(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key in lower case, value) of all that concerns services; the later of two counts."""
    for variable in config.get("Env") or ():
        name, equals, value = str(variable).partition("=")
        if equals and name.startswith(PREFIX):
            yield name.removeprefix(PREFIX).lower(), value
    for name, value in sorted((config.get("Labels") or {}).items()):
        if name.startswith(PREFIX):
            yield name.removeprefix(PREFIX).lower(), str(value or "")


def split_tags(text: str) -> tuple[str, ...]:
    r"""A comma list, in which `\,` is a comma of a tag; empty tags do not count, and of equal ones the first."""
    tags: list[str] = []
    for piece in text.split(","):
        if tags and tags[-1].endswith("\\"):
            tags[-1] = f"{tags[-1][:-1]},{piece}"
        else:
            tags.append(piece)
    return tuple(dict.fromkeys(filter(None, tags)))
