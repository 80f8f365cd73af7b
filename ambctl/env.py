"""`ambctl env`: the variables by which a container finds its links, as Docker's `--link` would set them."""

from __future__ import annotations

import asyncio
import json
import sys

from ambcore.errors import DockerError
from ambcore.links import variables
from ambcore.model import IPAddress, parse_ip
from ambcore.networks import parse_network
from ambctl.config import DEFAULT_NETWORK, Env
from ambnet.addresses import interface_address, local_addresses

DEFAULT_INTERFACE = "docker0"  # the bridge of the default network


async def env(settings: Env) -> int:
    """Print the variables. Raises DockerError where no address can be found."""
    address = settings.address or await _gateway(settings)
    found = variables(settings.links, str(address))
    if settings.json:
        lines = [json.dumps({"address": str(address), "variables": found}, indent=2)]
    else:
        lines = [f"{name}={value}" for name, value in found.items()]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
    return 0


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
