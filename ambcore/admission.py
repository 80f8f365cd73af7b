"""Which addresses a registry record may send traffic to.

Whoever can write the prefix in etcd steers connections, so a record is hostile until its address passed here. Checked
when the record is read; as records hold IP literals only, nothing can change between that and the connect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Any

from ambcore.errors import RecordError
from ambcore.model import Address, IPAddress

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# No service of another host lives there; 169.254.169.254 and fd00:ec2::254 are the clouds' metadata servers, whose
# answers are credentials. `ipaddress.is_reserved` and friends differ between Python versions; this list does not.
NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::/32",
        "ff00::/8",
    )
)


MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """A comma list of CIDR blocks; raises ValueError naming the one that is wrong.

    A block of IPv4-mapped IPv6 addresses becomes the block of IPv4 addresses it stands for, as addresses do here.
    """
    return tuple(_unmapped(ipaddress.ip_network(item.strip())) for item in text.split(",") if item.strip())


def of_family(networks: Iterable[IPNetwork], version: int) -> tuple[IPNetwork, ...]:
    """Those of IP version 4 or 6, in order, without what others of them cover."""
    same: list[Any] = [network for network in networks if network.version == version]
    return tuple(ipaddress.collapse_addresses(same))


def _unmapped(network: IPNetwork) -> IPNetwork:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        return ipaddress.IPv4Network((int(network[0]) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class Admission:
    """The rule: inside `instances_in` if that is given, else anywhere but `NEVER` and `bridge`; and never one of `own`.

    `own` are the proxy's own listeners, which may come and go: an instance there would be a loop.
    `bridge` are this host's addresses on Docker's default bridge. Every host has the same ones: a record from elsewhere
    means that one, and would lead to what listens here for the containers of this host alone.
    """

    instances_in: tuple[IPNetwork, ...] = ()
    own: Set[Address] = field(default_factory=frozenset)
    bridge: Set[IPAddress] = field(default_factory=frozenset)

    def check(self, address: Address) -> None:
        """Raises RecordError with reason `own_listener` or `address_denied`; returns nothing if all is well."""
        if address in self.own:
            raise RecordError("own_listener", f"{address} is this proxy's own listener")
        ip = address.ip
        if self.instances_in:
            if not _within(ip, self.instances_in):
                raise RecordError("address_denied", f"{address} is outside --instances-in")
        elif _within(ip, NEVER):
            raise RecordError("address_denied", f"{address} can never be an instance's address")
        elif ip in self.bridge:
            raise RecordError("address_denied", f"{address} is on Docker's bridge of this host, as of any other")
