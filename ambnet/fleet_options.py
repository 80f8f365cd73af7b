"""Where the fleet is described in etcd. Without the client, which is loaded only by whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.fleet import DEFAULT_FLEET
from ambcore.schema import normal_prefix
from ambnet.options import option


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """Where in etcd the fleet is described, which every program and ambctl have to agree on."""

    HEADING = "etcd"

    fleet_prefix: str = option(
        "--fleet-prefix",
        default=DEFAULT_FLEET,
        help="where programs announce themselves in etcd and operators' drains lie",
        parse=normal_prefix,
        env=["AMB_FLEET_PREFIX"],
        metavar="PREFIX",
    )
