"""registrar's settings, each option once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambcore.model import MAX_INSTANCE, MAX_SERVICE, IPAddress, check_name, parse_ip, parse_port
from ambnet.docker_options import DEFAULT_URL
from ambnet.etcd.options import EtcdOptions
from ambnet.http import AdminOptions
from ambnet.log import LogOptions
from ambnet.options import choice, count, option, positional, read_settings, seconds
from registrar.extract import Wish, unreachable

PROG = "registrar"
DESCRIPTION = "Keep one record in etcd that says where this host's CONTAINER publishes PORT, while it serves."

MIN_RESYNC = 1.0  # seconds; below this the daemon would be asked more often than events come


def _container(text: str) -> str:
    name = text.lstrip("/")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
        raise ValueError(f"a container is called by letters, digits and _.-, not {text!r}")
    return check_name("container", name, MAX_INSTANCE)


def _advertise(text: str) -> IPAddress:
    try:
        ip = parse_ip(text)
    except ValueError as error:
        raise ValueError(f"expected an IP address, not {text!r}") from error
    if (why := unreachable(ip)) is not None:
        raise ValueError(f"{ip} cannot be told to other hosts: it is an address {why}")
    return ip


def _docker(text: str) -> str:
    scheme, slashes, rest = text.partition("://")
    if scheme not in ("unix", "tcp", "http", "https") or not slashes or not rest:
        raise ValueError(f"expected unix://PATH or tcp://HOST:PORT, not {text!r}")
    return text


def _resync(text: str) -> float:
    value = seconds(text)
    if value < MIN_RESYNC:
        raise ValueError(f"expected at least {MIN_RESYNC:g} second, not {text!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class Settings(EtcdOptions, AdminOptions, LogOptions):
    """One run of registrar."""

    container: str = positional(
        "CONTAINER", help="name or id of the container; it need not exist yet", parse=_container
    )
    port: int = positional("PORT", help="the port inside the container", parse=parse_port)
    service: str = positional(
        "SERVICE", help="the service it is an instance of", parse=lambda text: check_name("service", text, MAX_SERVICE)
    )
    docker: str = option(
        "--docker", default=DEFAULT_URL, help="the Docker daemon", parse=_docker, env=["DOCKER_HOST"], metavar="URL"
    )
    advertise: IPAddress | None = option(
        "--advertise",
        default=None,
        help="this host's address for ports published on all of them; default: the one that reaches etcd",
        parse=_advertise,
        env=["AMB_ADVERTISE", "COREOS_PRIVATE_IPV4"],
        metavar="IP",
    )
    ttl: int = option(
        "--ttl",
        default=10,
        help="how long a record outlives a registrar that died",
        parse=count,
        env=["AMB_TTL"],
        metavar="SECONDS",
    )
    host_id: str | None = option(
        "--host-id",
        default=None,
        help="who owns the records; default: the Docker daemon's host name and id",
        parse=lambda text: check_name("host id", text, MAX_SERVICE),
        env=["AMB_HOST_ID"],
        metavar="NAME",
    )
    on_exit: str = option(
        "--on-exit",
        default="deregister",
        help="deregister, or keep: leave the record to its lease, for an upgrade that starts the next one in time",
        parse=choice("deregister", "keep"),
        env=["AMB_ON_EXIT"],
        metavar="WHAT",
    )
    resync: float = option(
        "--resync",
        default=30.0,
        help="look at the container this often, whatever the events say",
        parse=_resync,
        env=["AMB_RESYNC"],
        metavar="SECONDS",
    )

    @property
    def wish(self) -> Wish:
        """What to register."""
        return Wish(self.container, self.port, self.service)


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this run; raises ConfigError naming the option that is wrong."""
    return read_settings(Settings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ)
