"""Which data plane a dynproxy has, chosen once at its start: the kernel where the machine lets us, the relay always."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial

from ambcore.errors import ConfigError
from ambcore.model import Address
from ambnet.nft import Nft, NftError
from dynproxy.cleanup import forgotten_tables
from dynproxy.config import Front, Settings
from dynproxy.kernel_plane import kernel_plane, ports_of, table_of
from dynproxy.plane import DataPlane
from dynproxy.probe import Probe, probe
from dynproxy.relay_plane import relay_plane
from dynproxy.ruleset import DRAWS

log = logging.getLogger("plane")


@contextlib.asynccontextmanager
async def chosen_plane(
    settings: Settings,
    suspect: Callable[[Address], None] = lambda _: None,
    expected: Iterable[Front] = (),
    *,
    waiting: bool = False,
) -> AsyncIterator[DataPlane]:
    """The running plane. Raises ConfigError for a kernel that was insisted on and cannot be had, or a port.

    `expected` are fronts that will be opened soon: what is left of them from a process before this one goes on. One
    that is `waiting` touches nothing before it takes charge, as another process serves still.
    """
    nft = Nft()
    found = await _kernel(settings, nft)
    if settings.plane == "kernel" and not found.families:
        raise ConfigError("--plane", f"the kernel cannot: {found.why}")
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relay_plane(settings, found.why, waiting=waiting))
        if not found.families:
            relay.clear_away = partial(_leave, settings, nft, (*relay.served, *expected))
            if not waiting:
                await relay.take_charge()
            log.info("the relay serves: %s", found.why)
            yield relay
            return
        kernel = kernel_plane(settings, relay, nft, found, suspect, expected, waiting=waiting, fronts=relay.served)
        yield await stack.enter_async_context(kernel)


def only_relay(settings: Settings) -> str:
    """Why these settings leave nothing but the relay; empty where the kernel would be better."""
    if settings.plane == "relay":
        return "chosen by --plane relay"
    if settings.links:
        return "with --links listeners come and go"
    if settings.send_proxy or settings.accept_proxy:
        option = "--send-proxy" if settings.send_proxy else "--accept-proxy"
        return f"{option}: headers of the PROXY protocol stand among the bytes, which the relay carries"
    for cap in ("max_per_source", "max_per_instance"):
        if getattr(settings, cap) is not None:
            return f"--{cap.replace('_', '-')} needs to count connections, which the relay does"
    if settings.policy not in DRAWS:
        return f"{settings.policy} needs to count connections, which the relay does"
    return ""


async def _kernel(settings: Settings, nft: Nft) -> Probe:
    """What the kernel can do for these settings."""
    if why := only_relay(settings):
        return Probe((), why)
    return await probe(nft, settings.listen, insist=settings.plane == "kernel")


async def _leave(settings: Settings, nft: Nft, fronts: Iterable[Front]) -> None:
    """Take away what a former self left on these, which would go on forwarding as it was then."""
    ports = {port for front in fronts for port in ports_of(front)}
    if not ports and not settings.containers:
        return
    with contextlib.suppress(NftError):  # without the right to see tables there are none of ours
        own = table_of(settings) if settings.containers else None
        if text := await forgotten_tables(nft, settings.listen, ports, own=own):
            await nft.apply(text)
            log.warning("removed the rules that a dynproxy had left here")
