"""`ambctl show SERVICE`: every field of a service's records."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.schema import service_prefix
from ambctl import render
from ambctl.common import DONE, NOT_SO, Common, complain, patience, print_json, print_lines
from ambctl.names import parse_service
from ambctl.view import entries
from ambnet.etcd import Etcd
from ambnet.options import positional


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
        complain(f"no service {settings.service} under {settings.prefix}")
        return NOT_SO
    if settings.json:
        print_json(render.service_document(found, settings.service, listed.revision))
    else:
        print_lines(render.details(found))
    return DONE
