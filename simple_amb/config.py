"""simple-amb's settings: `simple-amb HOST:PORT [HOST:PORT…]`, or without arguments what the environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ambcore.errors import ConfigError
from ambcore.model import join_host_port, parse_ip, parse_port, split_host_port
from ambnet.log import LogOptions
from ambnet.options import option, positionals, read_settings, seconds
from ambnet.relay.options import RelayOptions
from simple_amb.wiring import Wiring, from_arguments, from_environment

PROG = "simple-amb"
DESCRIPTION = (
    "Static ambassador: forwards port 10000 to HOST:PORT, or to the first of several that answers. "
    "Without arguments, forwards each port that the environment names, as in REDIS_PORT_6379_TCP=tcp://HOST:PORT."
)
PORT = 10000  # where it listens if only a target is said


class Listen(NamedTuple):
    """Where to listen: an IP address, None for all, and a port, None if it was not said."""

    host: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return join_host_port(self.host or "*", self.port or PORT)


def parse_listen(text: str) -> Listen:
    """`PORT`, `ADDR`, `ADDR:PORT`, with brackets around an IPv6 address; raises ValueError."""
    if text.isdigit():
        return Listen(port=parse_port(text))
    if text.startswith("[") and text.endswith("]"):
        return Listen(str(parse_ip(text[1:-1])))
    if ":" not in text:
        return Listen(str(parse_ip(text)))
    host, port = split_host_port(text)
    return Listen(str(parse_ip(host)), port)


@dataclass(frozen=True, kw_only=True)
class Settings(RelayOptions, LogOptions):
    """Everything an operator can choose; durations in seconds."""

    EXAMPLES = (
        "simple-amb 10.132.181.182:2379",
        "REDIS_PORT_6379_TCP=tcp://10.132.181.182:6379 simple-amb",
    )

    hosts: tuple[str, ...] = positionals(
        "HOST:PORT", help="where to forward to; the next is asked if one fails", required=False
    )
    listen: Listen = option(
        "--listen",
        default=Listen(),
        help="where to listen; an address alone if the environment names the ports",
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

    def wiring(self, environ: Mapping[str, str]) -> Wiring:
        """What to forward: the arguments decide, without any the environment. Raises ConfigError."""
        if self.hosts:
            return from_arguments(self.hosts, self.listen.port or PORT)
        wiring = from_environment(environ)
        if self.listen.port is not None:
            raise ConfigError("--listen", "the environment names the ports, so it takes an address alone")
        return wiring


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> tuple[Settings, Wiring]:
    """The settings of this run and what it forwards; raises ConfigError naming the option or variable that is wrong."""
    settings = read_settings(Settings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ)
    return settings, settings.wiring(environ)
