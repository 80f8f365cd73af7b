"""By which address of ours others reach us, as far as the way to etcd tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from ambcore.model import IPAddress
from ambnet.addresses import source_address_towards
from ambnet.threads import in_thread

PATIENCE = 2.0  # seconds for names to be resolved; a resolver's own is 5 s a server and try (resolv.conf(5))

Route = Callable[[], Awaitable[IPAddress | None]]


def route_to(endpoints: tuple[str, ...]) -> Route:
    """A function that finds the address this host uses towards the first of these URLs that it has a route to.

    It finds None where there is no route, no such name, or no answer about it within PATIENCE.
    """
    hosts = [host for url in endpoints if (host := urlsplit(url).hostname)]

    def look() -> IPAddress | None:
        return next((ip for host in hosts if (ip := source_address_towards(host)) is not None), None)

    async def route() -> IPAddress | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await in_thread(look, "route")
        except OSError:  # no answer in time, or no thread to ask in
            return None

    return route
