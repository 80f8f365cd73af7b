"""PURE: what `docker inspect` says of a container -> which ports it exposes and where they are answered.

An ambassador on the same host uses the container's own address, so nothing need be published.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambcore.model import Address, Instance, IPAddress, Protocol, parse_ip, parse_port

SHORT_ID = 12  # characters of an id that Docker shows to people and accepts from them
BRIDGE = "bridge"  # the default network's name

Door = tuple[int, Protocol]  # a port that a container exposes


@dataclass(frozen=True, slots=True)
class Here:
    """Where we are. `addresses` are our own, `listening` those of them that we listen on: a container there would be a
    loop. `host` is where the daemon's host is reached from here: containers on the host's own network answer there.
    """

    addresses: frozenset[IPAddress] = frozenset()
    listening: frozenset[IPAddress] = frozenset()
    host: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class Exposed:
    """A container that exists, running or not. Without an `address` it gets no client, and `why` says why.

    `run` is which of its lives this is.
    """

    id: str
    name: str
    run: str
    doors: tuple[Door, ...]
    address: IPAddress | None
    why: str = ""


def exposed(inspected: Mapping[str, Any] | None, wanted: str, here: Here) -> Exposed | None:
    """What the container called `wanted` exposes; None if there is none of that name or id."""
    if inspected is None or not _is_the_one(inspected, wanted):
        return None
    name = name_of(inspected)
    found = address_of(inspected, here)
    address, why = (None, found) if isinstance(found, str) else (found, "")
    state = inspected.get("State") or {}
    if waits := _not_serving(state):
        address, why = None, waits
    doors = doors_of(inspected)
    if found in here.listening:
        doors, address, why = (), None, "its address is ours, and so are its ports"
    elif not doors:
        why = why or "it exposes no port"
    return Exposed(str(inspected.get("Id", "")), name, str(state.get("StartedAt") or ""), doors, address, why)


def name_of(inspected: Mapping[str, Any]) -> str:
    """The container's name without the API's slash."""
    return str(inspected.get("Name") or "").lstrip("/")


def on_host_network(inspected: Mapping[str, Any]) -> bool:
    """Whether it has no network of its own but the host's."""
    return str((inspected.get("HostConfig") or {}).get("NetworkMode") or "") == "host"


def doors_of(inspected: Mapping[str, Any]) -> tuple[Door, ...]:
    """Every TCP and UDP port that its image or its command line exposes or publishes, sorted."""
    places = (("Config", "ExposedPorts"), ("HostConfig", "PortBindings"), ("NetworkSettings", "Ports"))
    keys = {key for part, field in places for key in (inspected.get(part) or {}).get(field) or ()}
    return tuple(sorted(door for key in keys for door in _door(key)))


def _door(key: str) -> Iterator[Door]:
    """One for a `6379/tcp`, none for what we do not carry (sctp)."""
    port, _, protocol = key.partition("/")
    try:
        yield parse_port(port), Protocol(protocol or "tcp")
    except ValueError:
        return


def _not_serving(state: Mapping[str, Any]) -> str:
    """Why it should get no client now; empty if nothing is in the way. No health check means healthy."""
    status = str(state.get("Status") or "not running")
    # A container waiting for its restart policy counts as running in the API: its process is dead all the same.
    if not state.get("Running") or state.get("Restarting") or state.get("Dead"):
        return f"it is {status}"
    if state.get("Paused"):
        return "it is paused"
    health = str((state.get("Health") or {}).get("Status") or "")
    return {"starting": "it has not passed its health check yet", "unhealthy": "it fails its health check"}.get(
        health, ""
    )


def address_of(inspected: Mapping[str, Any], here: Here) -> IPAddress | str:
    """The container's own address on the network that suits us best, or why there is none.

    Best is one that we are in, too; then Docker's default bridge; then the first. IPv4 before IPv6.
    """
    mode = str((inspected.get("HostConfig") or {}).get("NetworkMode") or "")
    if mode == "host":
        return here.host or "it is on its host's network, which has no address here"
    found = list(_addresses((inspected.get("NetworkSettings") or {}).get("Networks") or {}))
    if not found:
        if mode.startswith("container:"):
            return f"it shares the network of {mode.removeprefix('container:')}: name that container instead"
        return "it has no address"

    def rank(item: tuple[str, ipaddress.IPv4Interface | ipaddress.IPv6Interface]) -> tuple[bool, bool, int]:
        network, at = item
        return not any(own in at.network for own in here.addresses), network != BRIDGE, at.version

    return parse_ip(str(min(found, key=rank)[1].ip))


def _addresses(
    networks: Mapping[str, Mapping[str, Any] | None],
) -> Iterator[tuple[str, ipaddress.IPv4Interface | ipaddress.IPv6Interface]]:
    """Every address that can be read, with its network's name."""
    fields = (("IPAddress", "IPPrefixLen", 32), ("GlobalIPv6Address", "GlobalIPv6PrefixLen", 128))
    for name, network in networks.items():
        for field, length, whole in fields:
            if text := (network or {}).get(field):
                try:
                    yield name, ipaddress.ip_interface(f"{parse_ip(text)}/{(network or {}).get(length) or whole}")
                except ValueError:
                    continue


def _is_the_one(inspected: Mapping[str, Any], wanted: str) -> bool:
    """The API also answers to the beginning of an id: `cafe` must not find another's container cafe0815…"""
    return name_of(inspected) == wanted or (
        len(wanted) >= SHORT_ID and str(inspected.get("Id") or "").startswith(wanted)
    )


def service_of(container: str, door: Door) -> str:
    """What a container's port is called as a service: its TCP and its UDP port of one number are one."""
    return f"{container}:{door[0]}"


def assigned(
    held: Mapping[Door, str], containers: Sequence[str], seen: Mapping[str, Exposed | None]
) -> dict[Door, str]:
    """Which of the containers each port belongs to, given who held it so far.

    Whoever holds a port keeps it, also while the container does not exist, until it exists without that port. Of those
    that want a free one the container named first has it.
    """
    now = {door: name for door, name in held.items() if (item := seen.get(name)) is None or door in item.doors}
    for name in containers:
        for door in getattr(seen.get(name), "doors", ()):
            now.setdefault(door, name)
    return now


def instances_of(container: str, number: int, doors: Iterable[Door], item: Exposed | None) -> tuple[Instance, ...]:
    """The instances of the service at this port number: one for each protocol, none while it gets no client."""
    if item is None or item.address is None:
        return ()
    return tuple(
        Instance(
            service_of(container, door),
            container if door[1] is Protocol.TCP else f"{container}:{door[1]}",
            Address(str(item.address), number),
            door[1],
            epoch=item.run,
            container=item.id,
        )
        for door in sorted(doors)
        if door[0] == number and door in item.doors
    )
