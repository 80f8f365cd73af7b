"""What is to be known of this machine before its address can be told to others; asked now and then, as it may move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ambcore.model import IPAddress
from ambcore.registration.extract import Host
from ambnet.dockerd import Engine


class Whereabouts:
    """`host` is what is known so far; `known` whether that is enough to find an address.

    `route` finds the address this host uses towards etcd, for when the operator gave none.
    """

    def __init__(
        self, engine: Engine, advertise: IPAddress | None, route: Callable[[], Awaitable[IPAddress | None]]
    ) -> None:
        self.host = Host(advertise)
        self.known = False
        self._engine = engine
        self._route = route

    async def refresh(self) -> None:
        """Ask again. Raises DockerError."""
        route = None if self.host.advertise else await self._route() or self.host.route
        bridges = await self._engine.bridges()
        every = tuple(network for subnets in bridges.values() for network in subnets)
        self.host = Host(self.host.advertise, route, bridges.get("bridge", ()), every)
        self.known = self.host.advertise is not None or route is not None
