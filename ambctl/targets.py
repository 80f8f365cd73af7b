"""What Prometheus is told to scrape: the announced programs, as its HTTP and file service discovery reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ambcore.fleet import Announcement
from ambcore.model import parse_ip

LABEL = "__meta_amb_"  # Prometheus forgets labels that begin with two underscores, unless a relabelling keeps them


def target_groups(programs: Iterable[Announcement], host: str) -> list[dict[str, Any]]:
    """A group for each program whose admin server can be reached from the machine `host`, in the order given; from
    anywhere, if that is empty.

    `__meta_amb_services` has the services' names with a comma around each, as Consul's tags have: a pattern such as
    `.*,redis-A,.*` then finds a whole name.
    """
    return [_group(program, url) for program in programs if (url := program.admin_from(host)) is not None]


def is_near(peer: str, own: str) -> bool:
    """Whether who asks from the address `peer` at our address `own` is on this machine, and shares its loopback."""
    return peer == own or parse_ip(peer.partition("%")[0]).is_loopback


def _group(program: Announcement, url: str) -> dict[str, Any]:
    about = {
        "program": program.kind.value,
        "id": program.id,
        "host": program.host,
        "version": program.version,
        "since": program.since,
        "services": "".join(f",{service}" for service in program.services) + ",",
    }
    return {
        "targets": [url.removeprefix("http://")],
        "labels": {f"{LABEL}{name}": text for name, text in about.items()},
    }
