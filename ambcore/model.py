"""The values everybody talks about: an address, an instance of a service.

All are frozen and validated when made, so a value that exists is a valid one. Plain dataclasses: the relay's
workers import this file too and have to stay small (`docs/decisions/0001-plain-dataclasses.md`).
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Self

MAX_WEIGHT = 256  # HAProxy's limit: enough for a 1:256 canary, small enough to reason about
MAX_SERVICE = 128  # characters; leaves room for prefix and instance below the key limit of `schema`
MAX_INSTANCE = 255  # `host:container:port:udp` with a host name and a container name of usual length

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Protocol(enum.StrEnum):
    """Transport an instance speaks."""

    TCP = "tcp"
    UDP = "udp"


class Readiness(enum.StrEnum):
    """What the owner of a record says about its instance."""

    UP = "up"
    DRAINING = "draining"  # finishes what it has, takes nothing new


def parse_ip(text: str) -> IPAddress:
    """An IP literal in canonical form; an IPv4-mapped IPv6 address becomes the IPv4 address it stands for.

    Raises ValueError for anything else, a name or a scoped address (`fe80::1%eth0`) included: those mean nothing on
    another host.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a scope, which means nothing on another host")
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_port(text: str) -> int:
    """A port number 1..65535 in plain decimal digits; raises ValueError for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not 1 <= (port := int(text)) <= 65535:
        raise ValueError(f"a port is a number from 1 to 65535, not {text[:20]!r}")
    return port


def split_host_port(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` to its parts. The host may be a name. Raises ValueError saying what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"expected HOST:PORT, not {text[:80]!r}")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets, as in [::1]:6379, not {text[:80]!r}")
    return host, parse_port(port)


def join_host_port(host: str, port: int) -> str:
    """The inverse of `split_host_port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where an instance answers: a canonical IP literal and a port 1..65535."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if type(self.port) is not int or not 1 <= self.port <= 65535:
            raise ValueError(f"a port is a number from 1 to 65535, not {self.port!r}")
        object.__setattr__(self, "host", str(parse_ip(self.host)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """`1.2.3.4:80` or `[2001:db8::1]:80`; raises ValueError."""
        return cls(*split_host_port(text))

    @property
    def ip(self) -> IPAddress:
        """The host as an `ipaddress` value."""
        return ipaddress.ip_address(self.host)

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


def check_name(kind: str, name: str, limit: int) -> str:
    """Names appear in keys, logs, metrics and pages: printable, no blank, no slash, 1..`limit` characters.

    Returns the name; raises ValueError.
    """
    a_kind = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    if not 1 <= len(name) <= limit:
        raise ValueError(f"{a_kind} has 1 to {limit} characters, not {len(name)}")
    if "/" in name or " " in name or not name.isprintable():
        raise ValueError(f"{a_kind} has no slash, blank or control character: {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of a service, as its record describes it.

    `weight` is its share of new connections, 1..256. `owner` names the host whose registrar keeps the record, `epoch`
    the life of that registrar, `container` the container's full id; all three are None in records written by others.
    `attributes` are sorted pairs.
    """

    service: str
    id: str
    address: Address
    protocol: Protocol = Protocol.TCP
    weight: int = 1
    readiness: Readiness = Readiness.UP
    owner: str | None = None
    epoch: str | None = None
    container: str | None = None
    tags: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_name("service", self.service, MAX_SERVICE)
        check_name("instance", self.id, MAX_INSTANCE)
        if type(self.weight) is not int or not 1 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is a number from 1 to {MAX_WEIGHT}, not {self.weight!r}")
        object.__setattr__(self, "attributes", tuple(sorted(self.attributes)))

    @property
    def takes_new(self) -> bool:
        """Whether new connections may go there."""
        return self.readiness is Readiness.UP
