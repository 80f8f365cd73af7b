"""Which addresses a registry record may send traffic to.

Whoever can write the prefix in etcd steers connections, so a record is hostile until its address passed here. Checked
when the record is read; as records hold IP literals only, nothing can change between that and the connect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from ambcore.errors import RecordError
from ambcore.model import Address, IPAddress

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# No service of another host lives there. `ipaddress.is_reserved` and friends differ between Python versions; these
# lists do not.
LOCAL = (
    *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
    *("::/128", "::1/128", "fe80::/10", "ff00::/8"),
)
# The clouds' metadata servers, whose answers are credentials. Most are link-local (169.254.169.254); these are not.
METADATA = (
    "fd00:ec2::/32",  # Amazon
    *("168.63.129.16/32", "fd20:ce::254/128"),  # Azure's wire server; Google
    *("100.100.100.200/32", "fd00:100::100:200/128"),  # Alibaba
    *("192.0.0.192/32", "fd00:c1::a9fe:a9fe/128"),  # Oracle
    *("fd00:42::42/128", "fd00:a9fe:a9fe::1/128"),  # Scaleway; Akamai
)
# Where a translator may stand that takes an IPv6 address for the IPv4 one in its last 32 bits: RFC 6052, 2.1, and the
# "IPv4-compatible" addresses of RFC 4291, 2.5.5.1.
TRANSLATED = (ipaddress.IPv6Address("64:ff9b::"), ipaddress.IPv6Address("::"))


def _with_translations(texts: Iterable[str]) -> Iterator[IPNetwork]:
    """The networks, and those of IPv6 that may be translated into one of them."""
    for network in map(ipaddress.ip_network, texts):
        yield network
        if isinstance(network, ipaddress.IPv4Network):
            for prefix in TRANSLATED:
                yield ipaddress.IPv6Network((int(prefix) + int(network[0]), 96 + network.prefixlen))


NEVER = tuple(_with_translations((*LOCAL, *METADATA)))

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


NEVER_OF: Mapping[int, tuple[IPNetwork, ...]] = {version: of_family(NEVER, version) for version in (4, 6)}


def never(address: IPAddress) -> bool:
    """Whether no record may ever name the address, unless the operator's own list does."""
    return _within(address, NEVER_OF[address.version])


def is_metadata(address: IPAddress) -> bool:
    """Whether a cloud has its metadata server there, at an address that is not link-local."""
    return _within(address, map(ipaddress.ip_network, METADATA))


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
        elif never(ip):
            raise RecordError("address_denied", f"{address} can never be an instance's address")
        elif ip in self.bridge:
            raise RecordError("address_denied", f"{address} is on Docker's bridge of this host, as of any other")
