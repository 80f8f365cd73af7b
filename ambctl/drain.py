"""`ambctl drain`, `undrain` and `drains`: what shall get no new connections, until an operator takes it back.

A marker in etcd, which every dynproxy honours. It has no lease, so it outlives restarts of every program; and it does
not touch the record, so whoever wrote that need not know of it.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ambcore import fleet
from ambcore.drains import Drains as Markers
from ambcore.drains import emptied, hit_by
from ambcore.errors import ConfigError
from ambcore.findings import Level
from ambcore.model import Instance
from ambcore.schema import service_prefix
from ambcore.text import visible
from ambctl import draw
from ambctl.common import DONE, NOT_SO, Common, complain, patience, print_json, print_lines
from ambctl.render import Cell, Column, Document, Shade, key_text
from ambctl.view import entries
from ambnet.announce import host_name
from ambnet.etcd import Etcd
from ambnet.fleet import drains as markers_in
from ambnet.options import option, positional, switch

LISTING = (
    Column("DRAINED"),
    Column("INSTANCES"),
    Column("SINCE", firm=True, spare=1),
    Column("BY", spare=2),
    Column("WHY", note=True),
)
SHOWN = 5  # instances that are named in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking(Common):
    """What a marker is of."""

    service: str | None = positional("SERVICE", help="the service, or SERVICE/INSTANCE", required=False)
    instance: str | None = positional("INSTANCE", help="the instance", required=False)
    host: str | None = option(
        "--host",
        default=None,
        help="every instance of this host, by its name, its whole owner or its address",
        metavar="HOST",
    )

    def __post_init__(self) -> None:
        _ = self.marker

    @property
    def marker(self) -> fleet.Drain:
        """The marker without what it says. Raises ConfigError."""
        service, _, instance = (self.service or "").partition("/")
        if self.instance is not None:
            service, instance = self.service or "", self.instance
        try:
            if self.host is not None:
                if self.service is not None:
                    raise ConfigError("--host", "it is for all instances of a host: leave out SERVICE")
                if not self.host:
                    raise ConfigError("--host", "expected a host's name, owner or address")
                return fleet.Drain(host=self.host.strip("[]"))
            if not instance:
                raise ConfigError("SERVICE/INSTANCE", "missing: name an instance, or a host by --host")
            return fleet.Drain(service, instance)
        except ValueError as error:
            raise ConfigError("--host" if self.host is not None else "SERVICE/INSTANCE", str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain(Marking):
    """Give an instance, or all of a host, no new connections; what is connected goes on. It lasts until undrain,
    whatever restarts meanwhile.
    """

    EXAMPLES = (
        "ambctl drain redis-A/redis-demo.service --why 'disk is failing'",
        "ambctl drain --host core-01 --why 'kernel upgrade'",
    )

    why: str = option("--why", default="", help="a reason, for whoever asks", metavar="TEXT")
    force: bool = switch("--force", help="even if no instance is left that takes new ones, or none is hit")

    @property
    def marker(self) -> fleet.Drain:
        """The marker with its reason. Raises ConfigError."""
        try:
            return replace(super(Drain, self).marker, why=self.why)
        except ValueError as error:
            raise ConfigError("--why", str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Undrain(Marking):
    """Let an instance, or all of a host, have new connections again."""

    EXAMPLES = ("ambctl undrain redis-A/redis-demo.service", "ambctl undrain --host core-01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drains(Common):
    """List what operators drained, and the instances that each drain is of."""

    EXAMPLES = ("ambctl drains", "ambctl drains --json | jq '.drains[] | select(.instances == [])'")


async def drain(settings: Drain) -> int:
    """Write a marker, unless that would leave a service without anybody who takes new connections."""
    marker = replace(settings.marker, since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), by=_operator())
    key = fleet.drain_key(marker, settings.fleet_prefix)
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        instances = await _instances(settings, etcd, marker.service)
        before = await markers_in(etcd, settings.fleet_prefix)
        hit = hit_by(marker, instances)
        last = emptied(instances, before, Markers.of([*before, marker]))
        if not settings.force and (why_not := _objection(marker, hit, last)):
            complain(f"{why_not}; --force drains it all the same")
            return NOT_SO
        revision = await etcd.put(key.encode(), fleet.encode_drain(marker))
    if settings.json:
        print_json({"key": key, "revision": revision, **_document(marker, hit), "emptied": list(last)})
    else:
        print_lines([f"{visible(str(marker))} gets no new connections{_whom(marker, hit)}"])
        for service in last:
            complain(f"{visible(service)} has no instance left that takes new connections")
    return DONE


def _objection(marker: fleet.Drain, hit: Sequence[Instance], last: Sequence[str]) -> str | None:
    """Why somebody should think again; None if there is nothing to say against it."""
    if not hit:
        return f"no instance is {'of ' if marker.host else 'called '}{visible(str(marker))}"
    if last:
        return f"{visible(', '.join(last))} would have no instance left that takes new connections"
    return None


async def undrain(settings: Undrain) -> int:
    """Delete a marker, however its key spells an address."""
    marker = settings.marker
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        before = await markers_in(etcd, settings.fleet_prefix)
        keys = [key for key, found in before.markers.items() if str(found) == str(marker)]
        removed = [key for key in keys if await etcd.delete(key)]
        hit = hit_by(marker, await _instances(settings, etcd, marker.service))
    after = Markers.of(found for key, found in before.markers.items() if key not in keys)
    still = [item for item in after.over(hit) if not item.takes_new]
    if not removed:
        complain(f"{visible(str(marker))} is not drained by an operator{_because(after, still)}")
        return NOT_SO
    if settings.json:
        print_json({"keys": [key_text(key) for key in removed], "removed": True, **_document(marker, hit)})
    else:
        print_lines([f"{visible(str(marker))} may have new connections again{_whom(marker, hit)}"])
    for item in still:
        complain(f"{visible(f'{item.service}/{item.id}')} still drains{_because(after, [item])}")
    return DONE


def _because(markers: Markers, draining: Sequence[Instance]) -> str:
    """Why instances drain, though no marker of theirs says so."""
    if not draining:
        return ""
    other = markers.hitting(draining[0])
    return f": {visible(str(other))} is" if other else ": its record says so"


async def drains(settings: Drains) -> int:
    """Every marker, those that hit nothing included."""
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        instances = await _instances(settings, etcd)
        markers = await markers_in(etcd, settings.fleet_prefix)
    for key, why in markers.refused.items():
        complain(f"{key_text(key)} drains nothing: {visible(why)}")
    hits = [(marker, hit_by(marker, instances)) for marker in markers]
    if settings.json:
        print_json({"drains": [_document(marker, hit) for marker, hit in hits]})
    elif hits:
        print_lines(draw.table(LISTING, [_row(marker, hit) for marker, hit in hits], settings.paper))
    else:
        complain(f"nothing is drained under {settings.fleet_prefix}")
    return DONE


def _row(marker: fleet.Drain, hit: Sequence[Instance]) -> tuple[Cell, ...]:
    names = _names(hit) if hit else Shade(_names(hit), Level.AMBER)
    return visible(str(marker)), names, visible(marker.since), visible(marker.by), visible(marker.why)


async def _instances(settings: Common, etcd: Etcd, service: str = "") -> tuple[Instance, ...]:
    """What the proxies see, of one service or of all. Raises RegistryError."""
    prefix = service_prefix(service, settings.prefix) if service else settings.prefix
    found = entries(await etcd.list(prefix.encode()), settings.reader)
    return tuple(entry.found for entry in found if isinstance(entry.found, Instance))


def _document(marker: fleet.Drain, hit: Iterable[Instance]) -> Document:
    said: dict[str, Any] = {"why": marker.why, "since": marker.since, "by": marker.by}
    if marker.host:
        named: dict[str, Any] = {"host": marker.host}
    else:
        named = {"service": marker.service, "instance": marker.instance}
    return {**named, **said, "instances": [f"{item.service}/{item.id}" for item in hit]}


def _whom(marker: fleet.Drain, hit: Sequence[Instance]) -> str:
    """Which instances a marker is of, where it does not say so itself."""
    return f": {_names(hit)}" if marker.host or not hit else ""


def _names(hit: Sequence[Instance]) -> str:
    names = [f"{item.service}/{item.id}" for item in hit]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return visible(", ".join(names[:SHOWN]) + more) if names else "there is no such instance"


def _operator() -> str:
    """Who types, as far as this machine knows."""
    user = os.environ.get("SUDO_USER") or _user()
    return f"{user if user.isprintable() else 'somebody'}@{host_name()}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return str(os.getuid())
