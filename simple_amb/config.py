"""simple-amb's settings: `simple-amb HOST:PORT [HOST:PORT…]`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambcore.errors import ConfigError
from ambcore.model import parse_ip, parse_port, split_host_port
from ambnet.log import LogOptions
from ambnet.options import option, positionals, read_settings, seconds
from ambnet.relay.options import RelayOptions

PROG = "simple-amb"
DESCRIPTION = "Static ambassador: forwards a port to HOST:PORT, or to the first of several that answers."

Listen = tuple[str | None, int]
Target = tuple[str, int]


def parse_listen(text: str) -> Listen:
    """`PORT` for all addresses, `ADDR:PORT` or `[V6]:PORT` for one; raises ValueError."""
    if ":" not in text:
        return None, parse_port(text)
    host, port = split_host_port(text)
    return str(parse_ip(host)), port


def parse_targets(texts: Sequence[str]) -> tuple[Target, ...]:
    """The targets in order, names left unresolved; raises ConfigError."""
    try:
        return tuple(split_host_port(text) for text in texts)
    except ValueError as error:
        raise ConfigError("HOST:PORT", str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Settings(RelayOptions, LogOptions):
    """Everything an operator can choose; durations in seconds."""

    hosts: tuple[str, ...] = positionals("HOST:PORT", help="where to forward to; the next is asked if one fails")
    listen: Listen = option(
        "--listen",
        default=(None, 10000),
        help="port, or address and port, to listen on",
        parse=parse_listen,
        env=["AMB_LISTEN"],
        metavar="[ADDR:]PORT",
    )
    drain: float = option(
        "--drain",
        default=5.0,
        help="on SIGTERM let open connections finish for so long",
        parse=seconds,
        env=["AMB_DRAIN"],
        metavar="SECONDS",
    )

    @property
    def targets(self) -> tuple[Target, ...]:
        """Where to forward to, in order; raises ConfigError."""
        return parse_targets(self.hosts)


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this run; raises ConfigError naming the option that is wrong."""
    settings = read_settings(Settings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ)
    parse_targets(settings.hosts)
    return settings
