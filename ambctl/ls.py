"""`ambctl ls`: every record under the prefix."""

from __future__ import annotations

from dataclasses import dataclass

from ambctl import draw, render
from ambctl.asked import drained
from ambctl.common import DONE, Common, complain, patience, print_json, print_lines
from ambctl.view import entries
from ambnet.etcd import Etcd


@dataclass(frozen=True, slots=True, kw_only=True)
class Ls(Common):
    """List every record as the proxies judge it, the refused ones with the reason."""

    EXAMPLES = ("ambctl ls", "ambctl ls --json | jq '.services | keys'")


async def ls(settings: Ls) -> int:
    """Every record under the prefix."""
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        listed = await etcd.list(settings.prefix.encode())
        drains = await drained(etcd, settings.fleet_prefix)
    found = entries(listed, settings.reader)
    if settings.json:
        print_json(render.listing_document(found, settings.prefix, listed.revision, drains))
    elif found:
        rows = render.listing(found, settings.prefix, drains)
        print_lines(draw.table(render.LISTING, rows, settings.paper))
    else:
        complain(f"no records under {settings.prefix}")
    return DONE
