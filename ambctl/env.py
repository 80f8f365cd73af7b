"""`ambctl env`: the variables by which a container finds its links, as Docker's `--link` would set them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ambcore.errors import ConfigError, DockerError
from ambcore.links import Link, parse_links, variables
from ambcore.model import IPAddress, parse_ip
from ambcore.networks import parse_network
from ambctl.common import DONE, Common, print_json, print_lines
from ambnet.addresses import interface_address, local_addresses
from ambnet.docker_options import DEFAULT_URL, parse_docker_url
from ambnet.options import option, positionals

DEFAULT_NETWORK = "bridge"  # of a container that names none
DEFAULT_INTERFACE = "docker0"  # the bridge of the default network


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Common):
    """Print the variables by which a container finds its links, as Docker's --link would set them."""

    EXAMPLES = (
        "ambctl env redis-A:6379 db=pg:5432 > links.env",
        "docker run --env-file links.env consumer",
    )

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

    def __post_init__(self) -> None:
        _ = self.links

    @property
    def links(self) -> tuple[Link, ...]:
        """What was asked for; raises ConfigError."""
        try:
            links = parse_links(",".join(self.wishes))
            variables(links, "0.0.0.0")  # noqa: S104 - any address will do: it shows whether names clash
        except ValueError as error:
            raise ConfigError("SERVICE:PORT", str(error)) from error
        return links


async def env(settings: Env) -> int:
    """Print the variables. Raises DockerError where no address can be found."""
    address = settings.address or await _gateway(settings)
    found = variables(settings.links, str(address))
    if settings.json:
        print_json({"address": str(address), "variables": found})
    else:
        print_lines(f"{name}={value}" for name, value in found.items())
    return DONE


async def _gateway(settings: Env) -> IPAddress:
    """This host's address in the container's network, an IPv4 one if there is one."""
    if settings.network == "host":
        return parse_ip("127.0.0.1")
    try:
        return await _asked(settings)
    except DockerError as error:
        # The default bridge is known without its daemon, to whoever is on its host.
        if settings.network == DEFAULT_NETWORK and (known := interface_address(DEFAULT_INTERFACE)):
            return known
        raise DockerError(f"{error}; give the address by --address") from error


async def _asked(settings: Env) -> IPAddress:
    from ambnet.dockerd import Engine  # noqa: PLC0415 - loading Docker's SDK takes longer than the rest

    try:
        async with Engine(settings.docker) as engine, asyncio.timeout(settings.timeout):
            await engine.connect()
            listed = [parse_network(raw, local_addresses()) for raw in await engine.networks()]
    except TimeoutError as error:
        raise DockerError(f"{settings.docker}: no answer (waited {settings.timeout:g} s)") from error
    network = next((each for each in listed if each.name == settings.network), None)
    if network is None:
        raise DockerError(f"there is no network {settings.network}")
    if network.internal or not network.gateways:
        raise DockerError(f"network {network.name} has no gateway: its containers cannot reach this host")
    return network.gateways[0]
