"""By which address of ours others reach us, as far as the way to etcd tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from ambcore.model import IPAddress
from ambnet.addresses import source_address_towards
from ambnet.threads import in_thread

Route = Callable[[], Awaitable[IPAddress | None]]


def route_to(endpoints: tuple[str, ...]) -> Route:
    """A function that finds the address this host uses towards the first of these URLs that it has a route to."""
    hosts = [host for url in endpoints if (host := urlsplit(url).hostname)]

    def look() -> IPAddress | None:
        return next((ip for host in hosts if (ip := source_address_towards(host)) is not None), None)

    async def route() -> IPAddress | None:
        return await in_thread(look, "route")

    return route
