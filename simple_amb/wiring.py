"""Which ports simple-amb forwards to where: from its arguments, or from variables as Docker's links set them.

    REDIS_PORT_6379_TCP=tcp://172.17.0.5:6379       local port 6379 leads there
    DNS_PORT_53_UDP=udp://ns1.example:53            local port 53 for datagrams

Whoever sets them, `docker run --link`, `-e` or Kubernetes, they count alike. A link also hands down the linked
container's own variables, as `<ALIAS>_ENV_<NAME>`: these count for ports that nothing else is said about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambcore.errors import ConfigError
from ambcore.model import Protocol, parse_port, split_host_port

Target = tuple[str, int]  # a host, which may be a name, and a port
Way = tuple[int, Protocol]  # a local port

VARIABLE = re.compile(r"(.*)_PORT_([0-9]+)_(TCP|UDP)")
NOTHING = "missing, and no variable such as REDIS_PORT_6379_TCP=tcp://HOST:PORT is set, by --link or by -e"


@dataclass(frozen=True, slots=True)
class Forward:
    """A local port and where it leads: to the first of its targets that answers.

    `alias` is what Docker calls the one target of a link in /etc/hosts, which it keeps up to date, unlike the variable.
    """

    port: int
    protocol: Protocol
    targets: tuple[Target, ...]
    alias: str | None = None

    def __str__(self) -> str:
        return f"{self.port}/udp" if self.protocol is Protocol.UDP else str(self.port)


@dataclass(frozen=True, slots=True)
class Wiring:
    """Every forward, in the order of ports, and what is worth a warning about how they came to be."""

    forwards: tuple[Forward, ...]
    warnings: tuple[str, ...] = ()


def from_arguments(texts: Sequence[str], port: int) -> Wiring:
    """One port that leads to the targets named, `HOST:PORT` each; raises ConfigError."""
    try:
        targets = tuple(split_host_port(text) for text in texts)
    except ValueError as error:
        raise ConfigError("HOST:PORT", str(error)) from error
    return Wiring((Forward(port, Protocol.TCP, targets),))


def from_environment(environ: Mapping[str, str]) -> Wiring:
    """A forward for every port that a variable names. Empty variables are as good as none.

    Of variables that lead one port to different targets the first by name is used, with a warning. Raises ConfigError
    for one that cannot be read, or if there is none.
    """
    found = [match for name, value in environ.items() if value and (match := VARIABLE.fullmatch(name))]
    used: dict[Way, tuple[str, Target]] = {}
    warnings = []
    for match in sorted(found, key=lambda match: (_handed_down(match.string), match.string)):
        variable = match.string
        try:
            way, target = _read(match, environ[variable])
        except ConfigError as error:
            if not _handed_down(variable):
                raise
            warnings.append(f"{error}; passed over")
            continue
        first, taken = used.setdefault(way, (variable, target))
        if taken != target and _handed_down(first) == _handed_down(variable):
            warnings.append(f"{first} and {variable} name different targets; {first} is used")
    if not used:
        raise ConfigError("HOST:PORT", NOTHING)
    forwards = (
        Forward(*way, (target,), _alias(variable, target, environ)) for way, (variable, target) in sorted(used.items())
    )
    return Wiring(tuple(forwards), tuple(warnings))


def _handed_down(variable: str) -> bool:
    """Whether the variable is a linked container's own, which says nothing of what its link is for."""
    return "_ENV_" in variable


def _alias(variable: str, target: Target, environ: Mapping[str, str]) -> str | None:
    """The name of the link that set the variable, from `REDIS_NAME=/our-name/redis`; None if none did."""
    match = VARIABLE.fullmatch(variable)
    if match is None or _handed_down(variable) or environ.get(f"{variable}_ADDR") != target[0]:
        return None
    return environ.get(f"{match[1]}_NAME", "").rpartition("/")[2] or None


def _read(match: re.Match[str], value: str) -> tuple[Way, Target]:
    """What the variable of this name says; raises ConfigError naming it."""
    _, port, transport = match.groups()
    scheme = f"{transport.lower()}://"
    try:
        if not value.startswith(scheme):
            raise ValueError(f"expected {scheme}HOST:PORT, not {value[:80]!r}")  # noqa: TRY301 - as the parsers say it
        return (parse_port(port), Protocol(transport.lower())), split_host_port(value.removeprefix(scheme))
    except ValueError as error:
        raise ConfigError(match.string, str(error)) from error
