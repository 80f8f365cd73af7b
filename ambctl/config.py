"""ambctl's verbs and their options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambcore.admission import Admission, IPNetwork, parse_networks
from ambcore.errors import ConfigError, RecordError
from ambcore.history import KeyValue
from ambcore.links import Link, parse_links, variables
from ambcore.model import (
    MAX_INSTANCE,
    MAX_SERVICE,
    MAX_WEIGHT,
    Address,
    Instance,
    IPAddress,
    Readiness,
    check_name,
    parse_ip,
)
from ambcore.schema import encode_record, record_key
from ambcore.table import Reader
from ambnet.docker_options import DEFAULT_URL, parse_docker_url
from ambnet.etcd.options import EtcdOptions
from ambnet.log import log_option
from ambnet.options import count, option, positional, positionals, read_command, seconds, switch

PROG = "ambctl"
DESCRIPTION = "Look at the records in etcd, watch them, write and remove one; print a container's link variables."

DEFAULT_NETWORK = "bridge"  # of a container that names none


def _service(text: str) -> str:
    return check_name("service", text, MAX_SERVICE)


def _instance(text: str) -> str:
    return check_name("instance", text, MAX_INSTANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Common(EtcdOptions):
    """What every verb understands."""

    json: bool = switch("--json", help="write JSON: one document, or one a line for watch")
    timeout: float = option(
        "--timeout",
        default=5.0,
        help="give up after so long without etcd",
        parse=seconds,
        env=["AMB_TIMEOUT"],
        metavar="SECONDS",
    )
    instances_in: tuple[IPNetwork, ...] = option(
        "--instances-in",
        default=(),
        help="networks that the proxies accept instances in, as they were told",
        parse=parse_networks,
        env=["AMB_INSTANCES_IN"],
        metavar="CIDR[,CIDR…]",
    )
    # What goes wrong for good is said by ambctl itself, in one line.
    log_level: str = log_option("error")

    @property
    def reader(self) -> Reader:
        """Reads records as a proxy with the same options does."""
        return Reader(self.prefix, Admission(self.instances_in))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ls(Common):
    """list every record, the refused ones with the reason"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Common):
    """show everything about a service"""

    service: str = positional("SERVICE", help="the service", parse=_service)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Common):
    """say what there is, then every change, until interrupted"""

    service: str | None = positional("SERVICE", help="one service; default: all", parse=_service, required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put(Common):
    """write a record by hand"""

    service: str = positional("SERVICE", help="the service", parse=_service)
    instance: str = positional("INSTANCE", help="what to call the instance", parse=_instance)
    address: Address = positional("HOST:PORT", help="where it answers; an IP address, no name", parse=Address.parse)
    weight: int = option(
        "--weight", default=1, help=f"its share of new connections, 1 to {MAX_WEIGHT}", parse=count, metavar="N"
    )
    draining: bool = switch("--draining", help="give it no new connections")
    ttl: int | None = option(
        "--ttl", default=None, help="let the record end after so long; default: never", parse=count, metavar="SECONDS"
    )
    force: bool = switch("--force", help="even if proxies would refuse the address or a registrar keeps the record")

    @property
    def record(self) -> tuple[bytes, bytes]:
        """Key and value to write. Raises ConfigError for a record that its readers would refuse."""
        try:
            instance = Instance(
                self.service,
                self.instance,
                self.address,
                weight=self.weight,
                readiness=Readiness.DRAINING if self.draining else Readiness.UP,
            )
        except ValueError as error:  # names and address were parsed: only the weight is left
            raise ConfigError("--weight", str(error)) from error
        key, value = record_key(self.service, self.instance, self.prefix).encode(), encode_record(instance)
        try:
            self.reader.read(KeyValue(key, value, 0))
        except RecordError as error:
            if error.reason != "address_denied":
                raise ConfigError("INSTANCE", str(error)) from error
            if not self.force:
                raise ConfigError("HOST:PORT", f"{error}; --force writes it all the same") from error
        return key, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Rm(Common):
    """remove a record"""

    # Not checked: what should not be there must be removable.
    service: str = positional("SERVICE", help="the service")
    instance: str = positional("INSTANCE", help="the instance")

    @property
    def key(self) -> bytes:
        """The key to remove, byte for byte as it was typed."""
        return os.fsencode(record_key(self.service, self.instance, self.prefix))


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Common):
    """print link variables for docker run --env-file, as in: ambctl env redis-A:6379 db=pg:5432 > links.env"""

    wishes: tuple[str, ...] = positionals("[NAME=]SERVICE:PORT", help="a service; NAME is another for its variables")
    address: IPAddress | None = option(
        "--address",
        default=None,
        help="where dynproxy listens for the container; default: the gateway of its network",
        parse=parse_ip,
        metavar="ADDR",
    )
    network: str = option(
        "--network", default=DEFAULT_NETWORK, help="the network of the container, as in docker run", metavar="NAME"
    )
    docker: str = option(
        "--docker",
        default=DEFAULT_URL,
        help="the Docker daemon that is asked for the gateway",
        parse=parse_docker_url,
        env=["DOCKER_HOST"],
        metavar="URL",
    )

    @property
    def links(self) -> tuple[Link, ...]:
        """What was asked for; raises ConfigError."""
        try:
            links = parse_links(",".join(self.wishes))
            variables(links, "0.0.0.0")  # noqa: S104 - any address will do: it shows whether names clash
        except ValueError as error:
            raise ConfigError("SERVICE:PORT", str(error)) from error
        return links


VERBS: Mapping[str, type[Common]] = {"ls": Ls, "show": Show, "watch": Watch, "put": Put, "rm": Rm, "env": Env}


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Common:
    """The settings of the verb that was typed; raises ConfigError naming what is wrong."""
    settings = read_command(VERBS, Common, prog=PROG, description=DESCRIPTION, argv=argv, environ=environ)
    if isinstance(settings, Put):
        _ = settings.record
    if isinstance(settings, Env):
        _ = settings.links
    return settings
