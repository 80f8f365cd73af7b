"""Whether what a Docker daemon answered has the shape in which it is read, so that whoever reads it need not ask.

A daemon is believed, but a filter in front of it, another engine, or a version to come may answer anything. What is
left out, null or empty is read as nothing everywhere, and fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EACH = "*"  # every name of an object
MAX_ID = 128  # characters; Docker's and Podman's have 64

Shape = Mapping[str, Any]  # name -> `str` for a text, a shape for an object, a list of one of both for a list

CONTAINER: Shape = {
    "Id": str,
    "Name": str,
    "Created": str,
    "State": {"StartedAt": str, "Health": {"Log": [{}]}},
    "Config": {"Image": str, "Env": [str], "Labels": {EACH: str}, "ExposedPorts": {}},
    "HostConfig": {"NetworkMode": str, "PortBindings": {}},
    "NetworkSettings": {
        "Ports": {EACH: [{}]},
        "Networks": {EACH: {"IPAddress": str, "GlobalIPv6Address": str}},
    },
}
LISTED: Shape = {**CONTAINER, "State": str, "Created": object, "Names": [str], "Labels": {EACH: str}}
NETWORK: Shape = {"Name": str, "Driver": str, "IPAM": {"Config": [{"Subnet": str, "Gateway": str}]}}


def container(document: Any) -> dict[str, Any]:
    """A container as `inspect` gives it; raises ValueError that says what is odd."""
    return _whole(document, CONTAINER, "a container")


def containers(document: Any) -> list[dict[str, Any]]:
    """The list of containers; raises ValueError."""
    return [_whole(item, LISTED, "a container") for item in _list(document)]


def networks(document: Any) -> list[dict[str, Any]]:
    """The list of networks; raises ValueError."""
    return [_whole(item, NETWORK, "a network") for item in _list(document)]


def engine(document: Any) -> dict[str, Any]:
    """What the daemon says of itself; raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, not {_kind(document)}")  # noqa: TRY004 - of an answer, not an argument
    return document


def _list(document: Any) -> list[Any]:
    if not isinstance(document, list):
        raise ValueError(f"expected a list, not {_kind(document)}")  # noqa: TRY004 - likewise
    return document


def _whole(document: Any, shape: Shape, what: str) -> dict[str, Any]:
    _check(document, shape, what)
    found: dict[str, Any] = document
    name = found.get("Id") or ""
    if shape is not NETWORK and not (1 <= len(name) <= MAX_ID and name.isascii() and name.isprintable()):
        raise ValueError(f"{what} without an Id")
    return found


def _check(value: Any, shape: Any, where: str) -> None:
    """Raises ValueError unless the value is of this shape; it is not nothing."""
    if not issubclass(type(value), type(shape) if isinstance(shape, dict | list) else shape):
        raise ValueError(f"{where} is {_kind(value)}")  # noqa: TRY004 - likewise
    if isinstance(shape, dict):
        for name, inner in shape.items():
            for found in value.values() if name == EACH else (value.get(name),):
                if found:
                    _check(found, inner, f"{where}'s {name}" if name != EACH else f"one of {where}")
    elif isinstance(shape, list):
        for item in value:
            _check(item, shape[0], f"one of {where}")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
