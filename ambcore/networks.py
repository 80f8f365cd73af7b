"""A Docker daemon's networks, as its list of them says."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ambcore.model import IPAddress, parse_ip


@dataclass(frozen=True, slots=True)
class Network:
    """`gateways` are this host's addresses in it, one a family at most: there its containers find the host."""

    name: str
    driver: str
    internal: bool
    gateways: tuple[IPAddress, ...]


def parse_network(raw: Mapping[str, Any], local: Collection[IPAddress] = ()) -> Network:
    """An entry of the list. Where the daemon leaves the gateway out, it is the one of our `local` addresses that lies
    in the subnet.
    """
    pools = (raw.get("IPAM") or {}).get("Config") or ()
    found: dict[int, IPAddress] = {}
    for gateway in (each for pool in pools for each in _gateways(pool, local)):
        if not gateway.is_link_local:  # those mean nothing without an interface
            found.setdefault(gateway.version, gateway)
    gateways = tuple(found[version] for version in sorted(found))
    return Network(str(raw.get("Name", "")), str(raw.get("Driver", "")), bool(raw.get("Internal")), gateways)


def _gateways(pool: Mapping[str, Any], local: Collection[IPAddress]) -> Iterator[IPAddress]:
    with contextlib.suppress(ValueError):
        if gateway := str(pool.get("Gateway") or ""):
            yield parse_ip(gateway.partition("/")[0])  # some versions write IPv6 ones as `fd00::1/64`
        else:
            subnet = ipaddress.ip_network(str(pool.get("Subnet")))
            yield from (address for address in local if address in subnet)
