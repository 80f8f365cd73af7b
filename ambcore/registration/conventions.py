"""What `docker inspect` says of a container -> all its instances, by registrator's conventions.

A port's service is what the container calls it, else the image's name without registry, tag and digest; `-<port>` is
added if more than one port will be registered, unless the name was given for that port. Its instance id is
`<host>:<container>:<port>`, with `:udp` for UDP, or what `SERVICE_ID` says. A port bound at several addresses is an
instance at each: the first (IPv4 before IPv6, then by number) has the plain id, the others add their address to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ambcore.errors import RecordError
from ambcore.model import Instance, Protocol
from ambcore.registration.extract import Host, Reason, Refusal, name_of, not_serving
from ambcore.registration.metadata import Metadata, metadata
from ambcore.registration.ports import Port, exposed_ports, published_ports
from ambcore.schema import DEFAULT_PREFIX, decode_record, encode_record, record_key


@dataclass(frozen=True, slots=True)
class Conventions:
    """What the operator chose. `host` begins every id, `tags` go to every instance, `network` is for `internal`."""

    host: str
    explicit: bool = False
    internal: bool = False
    network: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """A container's instances, and why others are not: for the container, or for a port of it."""

    instances: tuple[Instance, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def find(inspected: Mapping[str, Any], conventions: Conventions, host: Host) -> Findings:
    """What should stand in the registry while the container is as `inspected` says. Its ids are unique."""
    if (refusal := not_serving(inspected)) is not None:
        return Findings(refusals=(refusal,))
    decided = [each for verdicts in by_port(inspected, conventions, host).values() for each in verdicts]
    if not decided:
        kind = "exposes" if conventions.internal else "publishes"
        mode = str((inspected.get("HostConfig") or {}).get("NetworkMode") or "")
        hint = f" (its network is that of {mode})" if mode.startswith("container:") else ""
        return Findings(refusals=(Refusal(Reason.NOT_PUBLISHED, f"{name_of(inspected)} {kind} no port{hint}"),))
    return Findings(
        tuple(each for each in decided if isinstance(each, Instance)),
        tuple(each for each in decided if isinstance(each, Refusal)),
    )


def by_port(
    inspected: Mapping[str, Any], conventions: Conventions, host: Host
) -> dict[Port, tuple[Instance | Refusal, ...]]:
    """What each port that is published, or exposed for `internal`, comes to in a container that serves."""
    ports = (
        exposed_ports(inspected, conventions.network, host)
        if conventions.internal
        else published_ports(inspected, host)
    )
    config: Mapping[str, Any] = inspected.get("Config") or {}
    said = {port: metadata(config, port.number) for port in ports}
    verdicts = {port: _refused(port, said[port], inspected, conventions) for port in ports}
    counted = sum(refusal is None for refusal in verdicts.values())
    decided: dict[Port, tuple[Instance | Refusal, ...]] = {}
    taken: dict[tuple[str, str], Instance] = {}
    for port, refusal in verdicts.items():
        if refusal is not None:
            decided[port] = (refusal,)
            continue
        service = _service(port, said[port], inspected, grouped=counted > 1)
        made: list[Instance | Refusal] = []
        for each in _instances(port, said[port], service, inspected, conventions):
            outcome = _set_apart(each, taken) if isinstance(each, Instance) else each
            if isinstance(outcome, Instance):
                taken[outcome.service, outcome.id] = outcome
            made.append(outcome)
        decided[port] = tuple(made)
    return decided


def image_name(image: str) -> str:
    """`registry:5000/team/redis:7@sha256:…` is `redis`; empty for the bare id of an image."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return "" if image.startswith("sha256:") else name


def _refused(port: Port, said: Metadata, inspected: Mapping[str, Any], conventions: Conventions) -> Refusal | None:
    """Why a port does not even count; one that is about to be mapped does, lest its sibling's name changes with it."""
    where = f"port {port} of {name_of(inspected)}"
    if said.ignored:
        return Refusal(Reason.IGNORED, f"{where} is to be ignored: SERVICE_IGNORE is set")
    if conventions.explicit and not said.name:
        return Refusal(Reason.UNNAMED, f"{where} has no SERVICE_NAME, and only what has one is registered: --explicit")
    if isinstance(port.found, Refusal) and port.found.reason is not Reason.PORT_PENDING:
        return port.found
    return None


def _service(port: Port, said: Metadata, inspected: Mapping[str, Any], *, grouped: bool) -> str:
    """The name of a port's service; empty if there is none."""
    name = said.name or image_name(str((inspected.get("Config") or {}).get("Image") or ""))
    return f"{name}-{port.number}" if name and grouped and not said.own_name else name


def _instances(
    port: Port, said: Metadata, service: str, inspected: Mapping[str, Any], conventions: Conventions
) -> Iterator[Instance | Refusal]:
    if isinstance(port.found, Refusal):
        yield port.found
        return
    if not service:
        yield Refusal(Reason.UNNAMEABLE, f"the image of {name_of(inspected)} has no name: give it a SERVICE_NAME")
        return
    base = said.id or f"{conventions.host}:{name_of(inspected)}:{port.number}"
    marks = ("udp",) if port.protocol is Protocol.UDP else ()
    for address in port.found:
        own = "" if address is port.found[0] else f":{address.host}:{address.port}"
        try:
            yield _checked(
                Instance(
                    service,
                    base + own + (":udp" if marks and not said.id else ""),
                    address,
                    port.protocol,
                    container=str(inspected["Id"]),
                    tags=tuple(dict.fromkeys((*said.tags, *conventions.tags, *marks))),
                    attributes=said.attributes,
                )
            )
        except (ValueError, RecordError) as error:
            yield Refusal(Reason.UNNAMEABLE, f"port {port} of {name_of(inspected)} cannot be a record: {error}")


def _checked(instance: Instance) -> Instance:
    """Raises RecordError for what readers would refuse, too long a tag for one."""
    decode_record(record_key(instance.service, instance.id).encode(), encode_record(instance), DEFAULT_PREFIX)
    return instance


def _set_apart(instance: Instance, taken: Mapping[tuple[str, str], Instance]) -> Instance | Refusal:
    """A SERVICE_ID may mean a TCP and a UDP port of one number: UDP gets its mark then. More it cannot stand for."""
    if (instance.service, instance.id) not in taken:
        return instance
    marked = f"{instance.id}:udp"
    if instance.protocol is Protocol.UDP and (instance.service, marked) not in taken:
        return replace(instance, id=marked)
    text = f"{instance.service}/{instance.id} would stand for two ports: give each a SERVICE_<port>_ID of its own"
    return Refusal(Reason.DUPLICATE, text)
