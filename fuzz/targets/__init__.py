"""One function for each parser: any bytes go in, and what comes out is a defect or nothing.

A target reads the bytes as whoever is attacked does, expects nothing but the refusals that its parser promises, and
then holds what came out to the parser's own promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuzz.targets import arguments, containers, fleet, frames, kernel, netlink, proxy_header, records

Target = Callable[[bytes], None]

# In the order in which they are run: the most exposed first.
TARGETS: Mapping[str, Target] = {
    "record": records.record,
    "proxy": proxy_header.proxy,
    "container": containers.container,
    "ruleset": kernel.ruleset,
    "frame": frames.frame,
    "memory": records.memory,
    "links": containers.links,
    "event": containers.event,
    "fleet": fleet.fleet,
    "nft": kernel.nft,
    "netlink": netlink.netlink,
    "arguments": arguments.arguments,
}
