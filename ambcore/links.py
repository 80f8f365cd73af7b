"""Links: what a consumer's label asks for, and the variables by which the consumer finds it.

The label `ambassador.links=redis-A:6379,cache=pg:5432` on a container means: let me reach these services where I can
reach you. The variables are those that Docker's `--link` sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ambcore.model import MAX_SERVICE, Protocol, check_name, join_host_port, parse_port

LABEL = "ambassador.links"
MAX_LINKS = 64  # of one container: a line of configuration, not a way to take all ports of a host

_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Link:
    """A service, on a port of the consumer's choice; `alias` is another name for its variables."""

    service: str
    port: int
    protocol: Protocol = Protocol.TCP
    alias: str | None = None

    @property
    def variable(self) -> str:
        """What its variables begin with: upper case, and an underscore for what no variable's name has."""
        return re.sub(r"[^A-Z0-9_]", "_", (self.alias or self.service).upper())

    def __str__(self) -> str:
        name = f"{self.alias}={self.service}" if self.alias else self.service
        return f"{name}:{self.port}" + ("/udp" if self.protocol is Protocol.UDP else "")


def parse_links(text: str) -> tuple[Link, ...]:
    """`[ALIAS=]SERVICE:PORT[/udp]`, several with commas. Raises ValueError that names what is wrong.

    One port leads to one service, so all of it is refused where two share one.
    """
    items = text.split(",")
    if len(items) > MAX_LINKS:
        raise ValueError(f"{len(items)} links are more than {MAX_LINKS}")
    links: list[Link] = []
    for link in map(_parse_link, items):
        if link in links:
            raise ValueError(f"{link} is there twice")
        for other in links:
            if (other.port, other.protocol) == (link.port, link.protocol) and other.service != link.service:
                raise ValueError(f"port {link.port} cannot lead to both {other.service} and {link.service}")
        links.append(link)
    return tuple(links)


def _parse_link(text: str) -> Link:
    left, colon, right = text.strip().rpartition(":")
    alias, equals, service = left.partition("=") if "=" in left else ("", "", left)
    if not colon or not service:
        raise ValueError(f"expected SERVICE:PORT or ALIAS=SERVICE:PORT, not {text.strip()[:80]!r}")
    if equals and not _ALIAS.fullmatch(alias):
        raise ValueError(f"an alias is a letter, then letters, digits and _.-, not {alias[:80]!r}")
    port, slash, protocol = right.partition("/")
    if slash and protocol not in tuple(Protocol):
        raise ValueError(f"expected /tcp or /udp behind the port, not {protocol[:20]!r}")
    check_name("service", service, MAX_SERVICE)
    return Link(service, parse_port(port), Protocol(protocol or Protocol.TCP), alias or None)


def variables(links: Iterable[Link], host: str) -> dict[str, str]:
    """The environment of a consumer that reaches the links at `host`, an IP address; sorted by name.

    As Docker sets it: `<NAME>_PORT` for the lowest port, `<NAME>_PORT_<port>_<TCP|UDP>` and its three parts for each.
    Raises ValueError where one name would stand for two services.
    """
    found: dict[str, str] = {}
    setter: dict[str, Link] = {}
    for link in sorted(links, key=lambda link: (link.port, link.protocol)):
        for name, value in _own_variables(link, host).items():
            first = setter.setdefault(name, link)
            if first.service != link.service:
                raise ValueError(f"{first} and {link} would share {name}: give one another name, ALIAS=SERVICE:PORT")
            found.setdefault(name, value)
    return dict(sorted(found.items()))


def _own_variables(link: Link, host: str) -> dict[str, str]:
    url = f"{link.protocol}://{join_host_port(host, link.port)}"
    key = f"{link.variable}_PORT_{link.port}_{link.protocol.upper()}"
    parts = {"": url, "_ADDR": host, "_PORT": str(link.port), "_PROTO": str(link.protocol)}
    return {f"{link.variable}_PORT": url} | {f"{key}{part}": value for part, value in parts.items()}
