"""`ambctl show SERVICE`: every field of a service's records."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.schema import service_prefix
from ambctl import draw, render
from ambctl.asked import announced, drained, time_left
from ambctl.common import DONE, NOT_SO, Common, complain, patience, print_json, print_lines
from ambctl.names import parse_service, services
from ambctl.reach import sightings
from ambctl.view import entries
from ambnet.etcd import Etcd
from ambnet.options import meant, positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Common):
    """Show everything that is recorded of a service's instances."""

    EXAMPLES = ("ambctl show redis-A", "ambctl show redis-A --json | jq '.instances[].host'")

    service: str = positional("SERVICE", help="the service", parse=parse_service)


async def show(settings: Show) -> int:
    """Every field of a service's records."""
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        listed = await etcd.list(service_prefix(settings.service, settings.prefix).encode())
        found = entries(listed, settings.reader)
        if not found:
            names = services(await etcd.list(settings.prefix.encode()), settings.prefix)
            complain(f"no service {settings.service} under {settings.prefix}{meant(settings.service, names)}")
            return NOT_SO
        left = await time_left(etcd, (item.lease for item in listed.items))
        drains = await drained(etcd, settings.fleet_prefix)
        seen = sightings(await announced(etcd, settings.fleet_prefix))
    if settings.json:
        print_json(render.service_document(found, settings.service, listed.revision, left, drains, seen))
        return DONE
    where = settings.paper
    blocks = (
        draw.fields(render.key_text(each.item.key), render.fields(each, left, drains, seen), where) for each in found
    )
    print_lines(line for number, block in enumerate(blocks) for line in ([""] if number else []) + block)
    return DONE
