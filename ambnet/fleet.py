"""Who takes part in the fleet, and what operators drained, as etcd knows it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ambcore.drains import Drains, fold
from ambcore.errors import RecordError
from ambcore.fleet import DEFAULT_FLEET, DRAINS, PROGRAMS, Announcement, decode_program
from ambcore.schema import normal_prefix
from ambcore.text import visible
from ambnet.etcd import Etcd
from ambnet.options import option

log = logging.getLogger("fleet")


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """Where in etcd the fleet is described, which every program and ambctl have to agree on."""

    fleet_prefix: str = option(
        "--fleet-prefix",
        default=DEFAULT_FLEET,
        help="where programs announce themselves in etcd and operators' drains lie",
        parse=normal_prefix,
        env=["AMB_FLEET_PREFIX"],
        metavar="PREFIX",
    )


async def programs(etcd: Etcd, fleet: str = DEFAULT_FLEET) -> tuple[Announcement, ...]:
    """Every program that is announced now, sorted; what cannot be read is said in the log. Raises RegistryError."""
    found = []
    for item in (await etcd.list(f"{fleet}{PROGRAMS}".encode())).items:
        try:
            found.append(decode_program(item.key, item.value, fleet))
        except RecordError as error:
            log.warning("%s is no announcement: %s", visible(item.key.decode(errors="replace")), visible(str(error)))
    return tuple(sorted(found, key=lambda program: (program.kind, program.host, program.id)))


async def drains(etcd: Etcd, fleet: str = DEFAULT_FLEET) -> Drains:
    """Every marker that stands now. Raises RegistryError."""
    return fold(Drains(), await etcd.list(f"{fleet}{DRAINS}".encode()), fleet)
