"""registrar's settings, each option once: of `registrar CONTAINER PORT SERVICE`, and of a whole host without them."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ambcore.errors import ConfigError
from ambcore.model import MAX_INSTANCE, MAX_SERVICE, IPAddress, check_name, parse_port
from ambcore.registration.extract import Wish, parse_advertised
from ambcore.registration.metadata import split_tags
from ambnet.announce import AnnounceOptions
from ambnet.docker_options import DEFAULT_URL, DockerOptions
from ambnet.etcd.options import EtcdOptions
from ambnet.http import AdminOptions
from ambnet.log import LogOptions
from ambnet.options import choice, count, option, positional, read_settings, switch
from registrar.answers import Verify
from registrar.compat import Understood, understand

PROG = "registrar"
DESCRIPTION = (
    "Keep records in etcd that say where this host's containers serve, while they do: of CONTAINER's PORT, or, without "
    "arguments, of all containers by registrator's conventions. A URI etcd://HOST:PORT/PREFIX stands for --etcd and "
    "--prefix, and options may have one dash."
)

REGISTRATORS_SOCKET = Path("/tmp/docker.sock")  # noqa: S108 - where its documentation mounts the daemon's


def _container(text: str) -> str:
    name = text.lstrip("/")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
        raise ValueError(f"a container is called by letters, digits and _.-, not {text!r}")
    return check_name("container", name, MAX_INSTANCE)


def _tags(text: str) -> tuple[str, ...]:
    if not text.isprintable():
        raise ValueError("a tag is printable text")
    return split_tags(text)


@dataclass(frozen=True, kw_only=True)
class Settings(EtcdOptions, DockerOptions, AdminOptions, AnnounceOptions, LogOptions):
    """One run of registrar."""

    EXAMPLES = ("registrar redis-demo.service 6379 redis-A", "registrar --advertise 10.132.181.182 --tags blue")

    container: str | None = positional(
        "CONTAINER", help="name or id of the container; it need not exist yet", parse=_container, required=False
    )
    port: int | None = positional("PORT", help="the port inside the container", parse=parse_port, required=False)
    service: str | None = positional(
        "SERVICE",
        help="the service it is an instance of",
        parse=lambda text: check_name("service", text, MAX_SERVICE),
        required=False,
    )
    advertise: IPAddress | None = option(
        "--advertise",
        default=None,
        help="this host's address for ports published on all of them; default: the one that reaches etcd",
        parse=parse_advertised,
        env=["AMB_ADVERTISE", "COREOS_PRIVATE_IPV4"],
        metavar="IP",
    )
    explicit: bool = switch("--explicit", help="of all containers, register only ports that have a SERVICE_NAME")
    internal: bool = switch("--internal", help="register exposed ports at the containers' own addresses")
    network: str | None = option(
        "--network",
        default=None,
        help="with --internal, the network whose addresses count; a label ambassador.network says so for one container",
        env=["AMB_NETWORK"],
        metavar="NAME",
    )
    tags: tuple[str, ...] = option(
        "--tags",
        default=(),
        help=r"tags for every instance of all containers; \, is a comma of a tag",
        parse=_tags,
        env=["AMB_TAGS"],
        metavar="TAG[,TAG…]",
    )
    verify: str = option(
        "--verify",
        default=Verify.WARN.value,
        help="dial what is registered over TCP: warn where nobody answers; wait: register it once somebody does; no",
        parse=choice(*(each.value for each in Verify)),
        env=["AMB_VERIFY"],
        metavar="HOW",
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
        default="auto",
        help="deregister; keep: leave records to their lease, for an upgrade that starts the next one in time; auto: "
        "deregister one container, keep all of a host's",
        parse=choice("auto", "deregister", "keep"),
        env=["AMB_ON_EXIT"],
        metavar="WHAT",
    )

    @property
    def wish(self) -> Wish | None:
        """What to register; None: every container."""
        if self.container is None or self.port is None or self.service is None:
            return None
        return Wish(self.container, self.port, self.service)


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this run; raises ConfigError naming the option that is wrong."""
    return read_with_notes(argv, environ)[0]


def read_with_notes(
    argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and a line for the log about each option that changes nothing. Raises ConfigError."""
    understood = understand(sys.argv[1:] if argv is None else argv)
    settings = read_settings(Settings, prog=PROG, description=DESCRIPTION, argv=understood.argv, environ=environ)
    settings = _found(settings, understood) if settings.container is None else _of_one(settings, understood)
    if settings.network and not settings.internal:
        raise ConfigError("--network", "published ports are of no network: it goes with --internal")
    return settings, understood.notes


def _of_one(settings: Settings, understood: Understood) -> Settings:
    """CONTAINER was given: then PORT and SERVICE, too, and nothing that is for all containers."""
    for name, value in (("PORT", settings.port), ("SERVICE", settings.service)):
        if value is None:
            raise ConfigError(name, "missing")
    for flag in ("explicit", "internal", "network", "tags"):
        if getattr(settings, flag):
            raise ConfigError(f"--{flag}", "it is for all containers: leave out CONTAINER PORT SERVICE")
    if understood.by_uri:
        raise ConfigError("CONTAINER", "a registry's URI registers all containers: use --etcd and --prefix for one")
    on_exit = "deregister" if settings.on_exit == "auto" else settings.on_exit
    return dataclasses.replace(settings, on_exit=on_exit)


def _found(settings: Settings, understood: Understood) -> Settings:
    """For all containers, with the daemon's socket where registrator has it if the command line is registrator's."""
    moved = understood.by_uri and settings.docker == DEFAULT_URL and _is_registrators_place()
    docker = f"unix://{REGISTRATORS_SOCKET}" if moved else settings.docker
    on_exit = "keep" if settings.on_exit == "auto" else settings.on_exit
    return dataclasses.replace(settings, docker=docker, on_exit=on_exit)


def _is_registrators_place() -> bool:
    """Nothing where the socket usually is, and one where registrator has it, made by no stranger: anybody may write
    there.
    """
    place = REGISTRATORS_SOCKET
    usual = Path(DEFAULT_URL.removeprefix("unix://"))
    return not usual.exists() and place.is_socket() and place.stat().st_uid in (0, os.getuid())
