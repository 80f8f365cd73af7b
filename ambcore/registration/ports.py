"""Which ports of a container can be registered, and at which addresses.

Either those published on the host, at addresses of the host; or, `internal`, those exposed, at the container's own
addresses. A container's address never goes with a host's port, nor the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ambcore.model import Address, Protocol, parse_ip, parse_port
from ambcore.registration.extract import (
    WHERE_TO_PUBLISH,
    Host,
    Reason,
    Refusal,
    name_of,
    on_this_host,
    parsed_bindings,
    unreachable,
)

NETWORK_LABEL = "ambassador.network"


@dataclass(frozen=True, slots=True)
class Port:
    """A port inside a container, and where others reach it: addresses in order, IPv4 first, or why there are none."""

    number: int
    protocol: Protocol
    found: tuple[Address, ...] | Refusal

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


def published_ports(inspected: Mapping[str, Any], host: Host) -> tuple[Port, ...]:
    """The ports that are published on the host, or are about to be, in order."""
    settings, config = inspected.get("HostConfig") or {}, inspected.get("Config") or {}
    if settings.get("NetworkMode") == "host":
        return tuple(_port(name, _of_this_host(name, host)) for name in _known(config.get("ExposedPorts")))
    bindings = (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    asked_for = {*(settings.get("PortBindings") or {})}
    if settings.get("PublishAllPorts"):
        asked_for |= {*(config.get("ExposedPorts") or {})}
    wanted = _known({*(name for name, found in bindings.items() if found), *asked_for})
    return tuple(_port(name, _bound(name, bindings.get(name) or (), inspected, host)) for name in wanted)


def exposed_ports(inspected: Mapping[str, Any], network: str | None, host: Host) -> tuple[Port, ...]:
    """The ports that are exposed, at the container's own addresses in one network, in order."""
    settings, config = inspected.get("NetworkSettings") or {}, inspected.get("Config") or {}
    names = _known({*(config.get("ExposedPorts") or {}), *(settings.get("Ports") or {})})
    if (inspected.get("HostConfig") or {}).get("NetworkMode") == "host":
        return tuple(_port(name, _of_this_host(name, host)) for name in names)
    own = _own_addresses(inspected, network)
    if isinstance(own, Refusal):
        return tuple(_port(name, own) for name in names)
    return tuple(_port(name, tuple(Address(ip, _number(name)) for ip in own)) for name in names)


def _known(names: Iterable[str] | None) -> list[str]:
    """The ports of protocols that we carry, by number; what else a list of `80/tcp` may hold is left out."""
    return sorted(filter(_is_port, names or ()), key=lambda name: (_number(name), name))


def _is_port(name: str) -> bool:
    try:
        return _number(name) > 0 and name.partition("/")[2] in ("tcp", "udp")
    except ValueError:
        return False


def _number(name: str) -> int:
    return parse_port(name.partition("/")[0])


def _port(name: str, found: tuple[Address, ...] | Refusal) -> Port:
    return Port(_number(name), Protocol(name.partition("/")[2]), found)


def _of_this_host(name: str, host: Host) -> tuple[Address, ...] | Refusal:
    """A container in the host's own network has its ports open there, whatever it says of publishing."""
    found = on_this_host(_number(name), host)
    return found if isinstance(found, Refusal) else (found,)


def _bound(name: str, bindings: Any, inspected: Mapping[str, Any], host: Host) -> tuple[Address, ...] | Refusal:
    """Every address at which the port is bound and others can reach it, each once."""
    refusal = Refusal(Reason.PORT_PENDING, f"port {name} of {name_of(inspected)} is not mapped yet")
    found: set[Address] = set()
    for ip, port in parsed_bindings(bindings):
        if ip is None or ip.is_unspecified:
            reached = on_this_host(port, host, ip.version if ip else None)
            if isinstance(reached, Address):
                found.add(reached)
            elif refusal.reason is Reason.PORT_PENDING:
                refusal = reached  # of IPv4; that there is no IPv6 says less
        elif (why := unreachable(ip, host.docker0)) is None:
            found.add(Address(str(ip), port))
        else:
            text = f"port {name} of {name_of(inspected)} is published on {ip} only, {why}"
            refusal = Refusal(Reason.UNREACHABLE, f"{text}: {WHERE_TO_PUBLISH}")
    return tuple(sorted(found, key=_order)) or refusal


def _order(address: Address) -> tuple[int, int, int]:
    return address.ip.version, int(address.ip), address.port


def _own_addresses(inspected: Mapping[str, Any], network: str | None) -> tuple[str, ...] | Refusal:
    """The container's addresses in the network that its label or the operator names, or in its only one."""
    name = name_of(inspected)
    networks: Mapping[str, Any] = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    label = ((inspected.get("Config") or {}).get("Labels") or {}).get(NETWORK_LABEL)
    chosen = label or network
    if chosen and chosen not in networks:
        return Refusal(Reason.NETWORK, f"{name} is not in network {chosen}, but in: {', '.join(sorted(networks))}")
    if not chosen and len(networks) > 1:
        among = ", ".join(sorted(networks))
        return Refusal(Reason.NETWORK, f"{name} is in networks {among}: choose by --network or label {NETWORK_LABEL}")
    if not networks:
        mode = (inspected.get("HostConfig") or {}).get("NetworkMode")
        return Refusal(Reason.NETWORK, f"{name} has no network of its own (its mode is {mode})")
    chosen = chosen or next(iter(networks))
    found = tuple(_usable(networks[chosen] or {}))
    return found or Refusal(Reason.NETWORK, f"{name} has no address in network {chosen} yet")


def _usable(endpoint: Mapping[str, Any]) -> Iterator[str]:
    for field in ("IPAddress", "GlobalIPv6Address"):
        try:
            ip = parse_ip(str(endpoint.get(field) or ""))
        except ValueError:
            continue
        if unreachable(ip) is None:
            yield str(ip)
