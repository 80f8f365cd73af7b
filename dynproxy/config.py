"""dynproxy's settings: `dynproxy SERVICE PORT` or `dynproxy SERVICE:PORT [SERVICE:PORT…]`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ambcore.admission import IPNetwork, parse_networks
from ambcore.errors import ConfigError
from ambcore.model import MAX_SERVICE, Protocol, check_name, parse_ip, parse_port
from ambcore.picker import POLICIES
from ambnet.announce import AnnounceOptions
from ambnet.docker_options import DockerOptions
from ambnet.etcd.options import EtcdOptions
from ambnet.http import AdminOptions
from ambnet.log import LogOptions
from ambnet.options import choice, count, option, positionals, read_settings, repeated, seconds, switch
from ambnet.relay.limits import Limits
from ambnet.relay.options import RelayOptions

PROG = "dynproxy"
DESCRIPTION = "Dynamic ambassador: listens on PORT and balances connections over the instances of SERVICE in etcd."
REST = 0.05  # seconds between two tries at a container that refuses: nobody else can answer, and it is near


@dataclass(frozen=True, slots=True)
class Front:
    """One listening port and the service behind it: for TCP and UDP, or for one `protocol` alone; on the `host`
    address alone, or where `--listen` says.
    """

    service: str
    port: int
    protocol: Protocol | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """What becomes of an instance's open connections when its record goes.

    `seconds` they may go on: None for as long as they like (`keep`), 0 for not at all (`cut`).
    """

    seconds: float | None

    def __str__(self) -> str:
        if self.seconds is None:
            return "keep"
        return f"drain={self.seconds:g}" if self.seconds else "cut"


KEEP = Removal(None)
CUT = Removal(0.0)


def parse_removal(text: str) -> Removal:
    """`keep`, `drain=SECONDS` or `cut`; raises ValueError."""
    word, equals, rest = text.partition("=")
    if text in ("keep", "cut"):
        return KEEP if text == "keep" else CUT
    if word == "drain" and equals:
        return Removal(seconds(rest))
    raise ValueError(f"expected keep, drain=SECONDS or cut, not {text!r}")


def positive_seconds(text: str) -> float:
    """A duration above zero; raises ValueError."""
    if not (value := seconds(text)):
        raise ValueError("expected more than 0 seconds")
    return value


def directory(text: str) -> Path:
    """A directory, of several the first, as systemd names them; raises ValueError."""
    path = Path(text.partition(":")[0])
    if not path.is_absolute():
        raise ValueError("expected a path from the root on")
    return path


def parse_container(text: str) -> str:
    """A container's name or id; raises ValueError."""
    name = text.lstrip("/")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
        raise ValueError(f"a container is called by letters, digits and _.-, not {text!r}")
    return check_name("container", name, MAX_SERVICE - len(":65535"))


def parse_fronts(arguments: Sequence[str]) -> tuple[Front, ...]:
    """The fronts that the arguments name; raises ConfigError."""
    pairs = (
        [arguments]
        if len(arguments) == 2 and ":" not in arguments[0] + arguments[1]
        else [argument.rpartition(":")[::2] for argument in arguments]
    )
    fronts = tuple(_front(service, port) for service, port in pairs)
    ports = [front.port for front in fronts]
    if twice := {port for port in ports if ports.count(port) > 1}:
        raise ConfigError("PORT", f"{min(twice)} is given to more than one service")
    return fronts


def _front(service: str, port: str) -> Front:
    if not service:
        raise ConfigError("SERVICE", f"expected SERVICE PORT or SERVICE:PORT, not {port!r}")
    try:
        check_name("service", service, MAX_SERVICE)
    except ValueError as error:
        raise ConfigError("SERVICE", str(error)) from error
    try:
        return Front(service, parse_port(port))
    except ValueError as error:
        raise ConfigError("PORT", str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Settings(EtcdOptions, DockerOptions, RelayOptions, AdminOptions, AnnounceOptions, LogOptions):
    """Everything an operator can choose; durations in seconds."""

    EXAMPLES = ("dynproxy redis-A 6379", "dynproxy redis-A:6379 pg:5432 --admin :9100 --policy least-connections")

    services: tuple[str, ...] = positionals(
        "SERVICE PORT", help="what to listen for; also SERVICE:PORT, several times", required=False
    )
    containers: tuple[str, ...] = repeated(
        "--container",
        help="listen on every port that this container of ours exposes, without etcd; several times",
        parse=parse_container,
        env=["AMB_CONTAINER"],
        metavar="NAME",
    )
    links: bool = switch(
        "--links", help="listen for what this host's containers ask for by the label ambassador.links, where they are"
    )
    listen: str | None = option(
        "--listen",
        default=None,
        help="IP address to listen on; default: all of both families",
        parse=lambda text: str(parse_ip(text.strip("[]"))),
        env=["AMB_LISTEN"],
        metavar="ADDR",
    )
    workers: int = option("--workers", default=1, help="relay processes", parse=count, env=["AMB_WORKERS"], metavar="N")
    plane: str = option(
        "--plane",
        default="auto",
        help="who carries the bytes: kernel (nftables), relay (this program), or auto: the kernel where it can",
        parse=choice("auto", "kernel", "relay"),
        env=["AMB_PLANE"],
    )
    policy: str = option(
        "--policy",
        default="round-robin",
        help=f"whom a new connection goes to: {', '.join(POLICIES)}",
        parse=choice(*POLICIES),
        env=["AMB_POLICY"],
    )
    slow_start: float = option(
        "--slow-start",
        default=0.0,
        help="an instance that comes, or comes back from being down, gets a tenth of its share at first and all of it "
        "after so long; default: all at once",
        parse=seconds,
        env=["AMB_SLOW_START"],
        metavar="SECONDS",
    )
    on_removal: Removal = option(
        "--on-removal",
        default=KEEP,
        help="open connections of a removed instance: keep, drain=SECONDS or cut",
        parse=parse_removal,
        env=["AMB_ON_REMOVAL"],
        metavar="HOW",
    )
    park: float = option(
        "--park",
        default=10.0,
        help="how long a connection waits for a first instance",
        parse=seconds,
        env=["AMB_PARK"],
        metavar="SECONDS",
    )
    park_max: int = option(
        "--park-max",
        default=1024,
        help="connections a worker lets wait at once",
        parse=count,
        env=["AMB_PARK_MAX"],
        metavar="N",
    )
    drain: float = option(
        "--drain",
        default=30.0,
        help="on SIGTERM let open connections finish for so long",
        parse=seconds,
        env=["AMB_DRAIN"],
        metavar="SECONDS",
    )
    on_exit: str = option(
        "--on-exit",
        default="auto",
        help="the kernel's rules on SIGTERM: keep, remove, or auto: remove if dynproxy is a container's first process",
        parse=choice("auto", "keep", "remove"),
        env=["AMB_ON_EXIT"],
    )
    instances_in: tuple[IPNetwork, ...] = option(
        "--instances-in",
        default=(),
        help="networks instances may live in; default: anywhere but loopback, link-local and the like",
        parse=parse_networks,
        env=["AMB_INSTANCES_IN"],
        metavar="CIDR[,CIDR…]",
    )
    relist: float = option(
        "--relist",
        default=300.0,
        help="read all records anew this often, to be sure",
        parse=seconds,
        env=["AMB_RELIST"],
        metavar="SECONDS",
    )
    hold: float = option(
        "--hold",
        default=120.0,
        help="serve instances for so long whose records vanished though nobody deleted them, as long as they answer; "
        "0 for not at all",
        parse=seconds,
        env=["AMB_HOLD"],
        metavar="SECONDS",
    )
    state: Path | None = option(
        "--state",
        default=None,
        help="remember here what etcd told, for a start while it is away; default: systemd's StateDirectory=",
        parse=directory,
        env=["AMB_STATE", "STATE_DIRECTORY"],
        metavar="DIR",
    )
    check_interval: float = option(
        "--check-interval",
        default=2.0,
        help="connect to every TCP instance this often, to see whether it answers; 0 for never",
        parse=seconds,
        env=["AMB_CHECK_INTERVAL"],
        metavar="SECONDS",
    )
    check_timeout: float = option(
        "--check-timeout",
        default=0.4,
        help="how long a check waits for an instance's answer",
        parse=positive_seconds,
        env=["AMB_CHECK_TIMEOUT"],
        metavar="SECONDS",
    )

    cleanup: bool = switch("--cleanup", help="remove every rule that a dynproxy ever left in this kernel, and leave")

    @property
    def fronts(self) -> tuple[Front, ...]:
        """What to listen for from the start; raises ConfigError."""
        return parse_fronts(self.services)

    @property
    def limits(self) -> Limits:
        """What the relay has to keep to. An application in a container of ours begins to listen some time after its
        container runs: a client waits for that as it does for the container.
        """
        limits = replace(super().limits, park=self.park, park_max=self.park_max)
        return replace(limits, retry=max(limits.retry, self.park), rest=REST) if self.containers else limits


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this run; raises ConfigError naming the option that is wrong."""
    settings = read_settings(Settings, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ)
    if settings.cleanup:
        return settings
    if not settings.services and not settings.containers and not settings.links:
        raise ConfigError("SERVICE PORT", "missing")
    parse_fronts(settings.services)
    if settings.links and settings.containers:
        raise ConfigError("--links", "cannot go with --container: run one dynproxy for each")
    if settings.max_per_instance is not None and settings.max_per_instance < settings.workers:
        raise ConfigError("--max-per-instance", f"expected at least the {settings.workers} of --workers, who share it")
    if settings.links and settings.plane == "kernel":
        raise ConfigError("--plane", "kernel cannot go with --links, whose listeners come and go")
    return settings
