"""`ambctl rm SERVICE INSTANCE`: one record less."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ambcore.schema import record_key
from ambctl.common import DONE, NOT_SO, Common, complain, patience, print_json, print_lines
from ambctl.names import keeper
from ambctl.render import key_text
from ambnet.etcd import Etcd
from ambnet.options import meant, positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Rm(Common):
    """Remove a record, whoever wrote it."""

    EXAMPLES = ("ambctl rm redis-A by-hand",)

    # Not checked: what should not be there must be removable.
    service: str = positional("SERVICE", help="the service")
    instance: str = positional("INSTANCE", help="the instance")

    @property
    def key(self) -> bytes:
        """The key to remove, byte for byte as it was typed."""
        return os.fsencode(record_key(self.service, self.instance, self.prefix))


async def rm(settings: Rm) -> int:
    """Remove one record."""
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        before = await etcd.get(settings.key)
        removed = before is not None and await etcd.delete(settings.key)
        key = key_text(settings.key)
        if before is None or not removed:
            others = await etcd.list(settings.prefix.encode())
            complain(f"no record {key}{meant(key, (key_text(item.key) for item in others.items))}")
            return NOT_SO
    if owner := keeper(before, settings.prefix):
        complain(f"{key} was kept by the registrar of {owner}, which will write it again while the container runs")
    if settings.json:
        print_json({"key": key, "removed": True})
    else:
        print_lines([f"{key} removed"])
    return DONE
