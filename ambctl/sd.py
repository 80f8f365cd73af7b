"""`ambctl sd`: the announced programs as Prometheus' file service discovery reads them."""

from __future__ import annotations

from dataclasses import dataclass

from ambctl.common import DONE, Common, patience, print_json
from ambctl.targets import target_groups
from ambnet.announce import host_name
from ambnet.etcd import Etcd
from ambnet.fleet import programs
from ambnet.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class Sd(Common):
    """Print what Prometheus shall scrape, as its file_sd_configs read it; `ambctl ui` serves the same at /sd."""

    EXAMPLES = ("ambctl sd > /etc/prometheus/ambassadors.json",)

    host: str = option(
        "--host",
        default="",
        help="the machine that Prometheus is on, where it reaches loopback; default: this one",
        metavar="NAME",
    )


async def sd(settings: Sd) -> int:
    """Print the target groups."""
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        announced = await programs(etcd, settings.fleet_prefix)
    print_json(target_groups(announced, settings.host or host_name()))
    return DONE
