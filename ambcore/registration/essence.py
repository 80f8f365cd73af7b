"""What decides on a container, cut out of the 20 KiB that `docker inspect` says of it: small enough to keep for each.

Of its environment only what concerns services stays: the rest is nobody's business, and may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ambcore.registration.metadata import PREFIX
from ambcore.registration.ports import NETWORK_LABEL

MAX_OUTPUT = 300  # characters of what a health check said last
MARK = PREFIX.partition("_")[0]  # of names that look as if they were meant for us

_KEPT: Mapping[str, tuple[str, ...]] = {
    "State": ("Status", "Running", "Paused", "Restarting", "Dead", "ExitCode", "OOMKilled", "Error", "StartedAt"),
    "HostConfig": ("NetworkMode", "PortBindings", "PublishAllPorts"),
    "Config": ("Image", "ExposedPorts"),
    "NetworkSettings": ("Ports",),
}


def essence(inspected: Mapping[str, Any]) -> dict[str, Any]:
    """What `extract`, `find` and their explanation read of an inspection; they come to the same with either."""
    kept: dict[str, Any] = {"Id": inspected.get("Id", ""), "Name": inspected.get("Name", "")}
    for part, fields in _KEPT.items():
        said = inspected.get(part) or {}
        kept[part] = {field: said[field] for field in fields if said.get(field)}
    config = inspected.get("Config") or {}
    kept["State"] |= _health((inspected.get("State") or {}).get("Health") or {})
    kept["Config"]["Env"] = [str(line) for line in config.get("Env") or () if is_meant(str(line).partition("=")[0])]
    labels = config.get("Labels") or {}
    kept["Config"]["Labels"] = {
        name: str(value or "") for name, value in labels.items() if is_meant(name) or name == NETWORK_LABEL
    }
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    kept["NetworkSettings"]["Networks"] = {name: _addresses(endpoint or {}) for name, endpoint in networks.items()}
    return kept


def is_meant(name: str) -> bool:
    """Whether a label or a variable has to do with services, or looks as if it was meant to."""
    return name.upper().replace(".", "_").replace("-", "_").startswith(MARK)


def said(inspected: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(`variable` or `label`, name, value) of all that is meant for us, in the order in which the later one counts."""
    config = inspected.get("Config") or {}
    for line in config.get("Env") or ():
        name, equals, value = str(line).partition("=")
        if equals and is_meant(name):
            yield "variable", name, value
    for name, value in sorted((config.get("Labels") or {}).items()):
        if is_meant(name):
            yield "label", name, str(value or "")


def _health(health: Mapping[str, Any]) -> dict[str, Any]:
    if not health.get("Status"):
        return {}
    last = (health.get("Log") or [{}])[-1] or {}
    output = str(last.get("Output") or "").strip()[:MAX_OUTPUT]
    return {"Health": {"Status": health["Status"], "Log": [{"ExitCode": last.get("ExitCode"), "Output": output}]}}


def _addresses(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    return {field: endpoint[field] for field in ("IPAddress", "GlobalIPv6Address") if endpoint.get(field)}
