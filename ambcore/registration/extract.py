"""What `docker inspect` says of a container -> the instance to publish, or the reason why not.

Only published ports count, never a container's own address: nobody outside this host could reach that. What holds for
every way of registering stands here, too: a container's state, and which addresses of a binding can be told to others.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ambcore.admission import IPNetwork, is_metadata, never
from ambcore.model import Address, Instance, IPAddress, parse_ip, parse_port

SHORT_ID = 12  # characters of an id that Docker shows to people and accepts from them
WHAT_TO_SET = "set --advertise (or AMB_ADVERTISE) to an address of this host that the other hosts can reach"
WHERE_TO_PUBLISH = "publish it on an address of this host"


class Reason(enum.Enum):
    """Why a container has no record. The values are for people and for the status page."""

    ABSENT = "absent"
    NOT_RUNNING = "not-running"
    PAUSED = "paused"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    PORT_PENDING = "port-pending"
    NOT_PUBLISHED = "not-published"
    UNREACHABLE = "unreachable-address"
    UNNAMEABLE = "unnameable"
    IGNORED = "ignored"
    UNNAMED = "unnamed"
    NETWORK = "network"
    DUPLICATE = "duplicate"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Refusal:
    """No record, and one line for the operator saying why."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asked for: register this container's port as an instance of this service."""

    container: str
    port: int
    service: str


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of the machine. `advertise` is the operator's word, `route` the source address of the route to
    etcd, `docker0` the subnets of Docker's default bridge and `bridges` those of all its bridge networks.

    An address in docker0's is refused whoever names it. A gateway of another bridge may be meant: several hosts
    simulated on one machine reach each other there. But the route to etcd leads through one only when we run in a
    container ourselves.
    """

    advertise: IPAddress | None = None
    route: IPAddress | None = None
    docker0: tuple[IPNetwork, ...] = ()
    bridges: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One life of one container: its id, and when it started by the daemon's clock in nanoseconds (0: never)."""

    container: str
    started: int


def extract(inspected: Mapping[str, Any] | None, wish: Wish, host: Host) -> Instance | Refusal:
    """The instance that should stand in the registry while the container is as `inspected` says."""
    if inspected is None or not _is_the_one(inspected, wish.container):
        return Refusal(Reason.ABSENT, f"no container is called {wish.container}")
    name = name_of(inspected)
    if (refusal := not_serving(inspected)) is not None:
        return refusal
    found = _address(inspected, wish.port, host)
    if isinstance(found, Refusal):
        return found
    try:
        return Instance(wish.service, name, found, container=str(inspected["Id"]))
    except ValueError as error:  # Docker sets no limit to the length of a name
        return Refusal(Reason.UNNAMEABLE, f"the container's name cannot be a record's: {error}")


def name_of(inspected: Mapping[str, Any]) -> str:
    """The container's name without the API's slash."""
    return str(inspected.get("Name", "")).lstrip("/")


def run_of(inspected: Mapping[str, Any]) -> Run:
    """Which life of which container an inspection saw."""
    started = str((inspected.get("State") or {}).get("StartedAt") or "")
    return Run(str(inspected.get("Id", "")), nanoseconds(started))


def nanoseconds(timestamp: str) -> int:
    """RFC 3339 with up to nine decimals (more than `datetime` reads) to nanoseconds since 1970; 0 for "never"."""
    head, dot, tail = timestamp.partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    fraction, zone = (tail[:digits], tail[digits:]) if dot else ("", "")
    try:
        moment = datetime.fromisoformat(head + zone)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp()) * 10**9 + int(fraction[:9].ljust(9, "0") or 0))


def _is_the_one(inspected: Mapping[str, Any], wanted: str) -> bool:
    """The API also answers to the beginning of an id: `cafe` must not find another's container cafe0815…"""
    identity = str(inspected.get("Id", ""))
    return name_of(inspected) == wanted or (len(wanted) >= SHORT_ID and identity.startswith(wanted))


def not_serving(inspected: Mapping[str, Any]) -> Refusal | None:
    """Why a container is in no state to take connections; None if it is."""
    state, name = inspected.get("State") or {}, name_of(inspected)
    status = str(state.get("Status") or "")
    # A container waiting for its restart policy counts as running in the API: its process is dead all the same.
    if not state.get("Running") or state.get("Restarting") or state.get("Dead"):
        return Refusal(Reason.NOT_RUNNING, f"{name} is {status or 'not running'}")
    if state.get("Paused") or status == "paused":
        return Refusal(Reason.PAUSED, f"{name} is paused")
    health = str((state.get("Health") or {}).get("Status") or "")
    if health == "starting":
        return Refusal(Reason.STARTING, f"{name} has not passed its health check yet")
    if health == "unhealthy":
        return Refusal(Reason.UNHEALTHY, f"{name} fails its health check")
    return None


def _address(inspected: Mapping[str, Any], port: int, host: Host) -> Address | Refusal:
    settings = inspected.get("HostConfig") or {}
    mode = str(settings.get("NetworkMode") or "")
    if mode == "host":
        return on_this_host(port, host)
    key = f"{port}/tcp"
    bindings = ((inspected.get("NetworkSettings") or {}).get("Ports") or {}).get(key)
    if not bindings:
        asked_for = key in (settings.get("PortBindings") or {}) or settings.get("PublishAllPorts")
        if asked_for:
            return Refusal(Reason.PORT_PENDING, f"port {key} of {name_of(inspected)} is not mapped yet")
        hint = f" (its network is that of {mode})" if mode.startswith("container:") else ""
        return Refusal(
            Reason.NOT_PUBLISHED,
            f"port {key} of {name_of(inspected)} is not published: run it with -p ADDRESS::{port}{hint}",
        )
    return _choose(list(parsed_bindings(bindings)), host)


def parsed_bindings(bindings: Iterable[Mapping[str, Any]]) -> Iterable[tuple[IPAddress | None, int]]:
    """(address, or None for "all of both families", port) of each binding that can be read."""
    for binding in bindings:
        text = str(binding.get("HostIp") or "")
        try:
            yield (parse_ip(text) if text else None), parse_port(str(binding.get("HostPort") or ""))
        except ValueError:
            continue


def _choose(bindings: list[tuple[IPAddress | None, int]], host: Host) -> Address | Refusal:
    """A binding's own address before any other, the advertised one first of all; else one that means all addresses."""
    refusal = Refusal(Reason.PORT_PENDING, "its port has no readable binding yet")
    specific = [(ip, port) for ip, port in bindings if ip is not None and not ip.is_unspecified]
    for ip, port in sorted(specific, key=lambda binding: binding[0] != host.advertise):
        if (why := unreachable(ip, host.docker0)) is None:
            return Address(str(ip), port)
        refusal = Refusal(Reason.UNREACHABLE, f"published on {ip} only, {why}: {WHERE_TO_PUBLISH}")
    for own, port in bindings:
        if own is None or own.is_unspecified:
            found = on_this_host(port, host, own.version if own else None)
            if isinstance(found, Address):
                return found
            refusal = found
    return refusal


def on_this_host(port: int, host: Host, version: int | None = None) -> Address | Refusal:
    """The address to tell others for a port that is open on all addresses of this host, or on all IPv`version` ones."""
    if host.advertise is not None:
        ip, whence = host.advertise, "the advertised address"
        why = unreachable(ip, host.docker0)
    elif host.route is not None:
        ip, whence = host.route, "the route to etcd leaves from"
        why = unreachable(ip, host.bridges)
    else:
        return Refusal(
            Reason.UNREACHABLE, f"there is no route to etcd to learn this host's address from: {WHAT_TO_SET}"
        )
    if why is not None:
        return Refusal(Reason.UNREACHABLE, f"{whence} {ip}, {why}: {WHAT_TO_SET}")
    if version not in (None, ip.version):
        return Refusal(Reason.UNREACHABLE, f"published for IPv{version} only, but {whence} {ip}: {WHAT_TO_SET}")
    return Address(str(ip), port)


def parse_advertised(text: str) -> IPAddress:
    """An address that other hosts can be told; raises ValueError."""
    try:
        ip = parse_ip(text)
    except ValueError as error:
        raise ValueError(f"expected an IP address, not {text!r}") from error
    if (why := unreachable(ip)) is not None:
        raise ValueError(f"{ip} cannot be told to other hosts: it is an address {why}")
    return ip


def unreachable(ip: IPAddress, bridges: Iterable[IPNetwork] = ()) -> str | None:
    """Why no other host can reach this address, as the end of a sentence; None if it may well do."""
    if ip.is_unspecified:
        return "which is no address to connect to"
    if ip.is_loopback:
        return "which every host has to itself"
    if is_metadata(ip):
        return "which is that of a cloud's metadata server"
    if never(ip):
        return "which reaches no further than this host's own links"
    if any(ip in network for network in bridges):
        return "which lies inside a bridge network of this host's Docker"
    return None
