"""What a name means: a service, an instance, a container, or several of these at once. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from ambcore.errors import RecordError
from ambcore.fleet import Announcement
from ambcore.history import KeyValue
from ambcore.schema import decode_record, split_key

SHORT_ID = 12  # characters of an id that Docker shows to people and accepts from them
NEAR = 5  # names that are offered for one that does not exist

Key = tuple[str, str]  # service and instance


@dataclass(frozen=True, slots=True)
class Names:
    """Every name there is, as far as anybody told: services, instances (as keys), containers with their instances, and
    those by the full ids of their containers.
    """

    services: frozenset[str] = frozenset()
    instances: frozenset[Key] = frozenset()
    containers: Mapping[str, frozenset[Key]] = field(default_factory=dict)
    identities: Mapping[str, frozenset[Key]] = field(default_factory=dict)

    def all(self) -> frozenset[str]:
        """Everything that may be asked for."""
        paths = frozenset(f"{service}/{name}" for service, name in self.instances)
        return self.services | self.containers.keys() | paths | {name for _, name in self.instances}

    def near(self, name: str) -> tuple[str, ...]:
        """Those that resemble one that is not there, the nearest first."""
        folded = {each.casefold(): each for each in sorted(self.all(), reverse=True)}
        found = get_close_matches(name.casefold(), list(folded), NEAR, cutoff=0.6)
        within = [each for each in sorted(folded) if name.casefold() in each and each not in found]
        return tuple(folded[each] for each in (*found, *within)[:NEAR])


@dataclass(frozen=True, slots=True)
class Subject:
    """What a name was taken for: `kinds` of "service", "instance" and "container", none if there is none of that name;
    `keys` are the instances that are meant. `near` are names that exist.
    """

    name: str
    kinds: tuple[str, ...] = ()
    keys: frozenset[Key] = frozenset()
    near: tuple[str, ...] = ()

    @property
    def services(self) -> frozenset[str]:
        """The services that are concerned."""
        own = {self.name.partition("/")[0]} if "service" in self.kinds or "/" in self.name else set()
        return frozenset(own | {service for service, _ in self.keys})

    def also(self, kind: str, keys: Iterable[Key] = ()) -> Subject:
        """With what somebody else knows of the name."""
        kinds = self.kinds if kind in self.kinds else (*self.kinds, kind)
        return replace(self, kinds=kinds, keys=self.keys | frozenset(keys))


def resolve(name: str, names: Names) -> Subject:
    """What a name means among all that there are."""
    kinds, keys = [], set[Key]()
    if name in names.services:
        kinds.append("service")
        keys |= {key for key in names.instances if key[0] == name}
    if found := {key for key in names.instances if name in (key[1], "/".join(key))}:
        kinds.append("instance")
        keys |= found
    by_id = [names.identities[each] for each in names.identities if len(name) >= SHORT_ID and each.startswith(name)]
    if name in names.containers or by_id:
        kinds.append("container")
        keys |= names.containers.get(name, frozenset()).union(*by_id)
    return Subject(name, tuple(kinds), frozenset(keys), () if kinds else names.near(name))


def collect(
    items: Sequence[KeyValue], prefix: str, programs: Iterable[Announcement], statuses: Iterable[Mapping[str, Any]]
) -> Names:
    """Every name that the records, the announcements and the programs' status documents hold. The documents are others'
    words: what has another shape than ours is passed over.
    """
    services, instances = set[str](), set[Key]()
    containers: dict[str, set[Key]] = {}
    identities: dict[str, set[Key]] = {}
    for item in items:
        key = _key(item, prefix)
        if key is not None:
            instances.add(key)
            if identity := _container(item, prefix):
                identities.setdefault(identity, set()).add(key)
                containers.setdefault(container_of(key[1]), set()).add(key)
    for program in programs:
        services |= set(program.services)
    for status in statuses:
        services |= _texts(status.get("services"), "name")
        if isinstance(own := status.get("service"), str):
            services.add(own)
        for container, key in _registered(status):
            containers.setdefault(container, set()).update({key} if key else ())
            instances |= {key} if key else set()
        for service in _documents(status.get("services")):
            instances |= {(str(service.get("name")), each) for each in _texts(service.get("instances"), "id")}
    services |= {service for service, _ in instances}
    return Names(frozenset(services), frozenset(instances), _frozen(containers), _frozen(identities))


def container_of(instance: str) -> str:
    """The container's name in a registrar's instance id: `host:container:port`, or the name, if need be `@host`."""
    parts = instance.split(":")
    return parts[1] if len(parts) > 2 else instance.partition("@")[0]


def _frozen(found: Mapping[str, set[Key]]) -> dict[str, frozenset[Key]]:
    return {name: frozenset(keys) for name, keys in found.items()}


def _key(item: KeyValue, prefix: str) -> Key | None:
    try:
        return split_key(item.key, prefix)
    except RecordError:
        return None


def _container(item: KeyValue, prefix: str) -> str | None:
    """The full id of a record's container, if it has one."""
    try:
        return decode_record(item.key, item.value, prefix).container
    except RecordError:
        return None


def _registered(status: Mapping[str, Any]) -> Iterable[tuple[str, Key | None]]:
    """(container's name, the key of an instance of it or None) of what a registrar's status tells."""
    for part in ("registered", "not_registered"):
        for entry in _documents(status.get(part)):
            if isinstance(name := entry.get("container"), str):
                service, own = entry.get("service"), entry.get("id")
                yield name, (service, own) if isinstance(service, str) and isinstance(own, str) else None
    one, held = status.get("container"), status.get("held")
    if isinstance(one, Mapping) and isinstance(name := one.get("name"), str):
        service, own = status.get("service"), held.get("id") if isinstance(held, Mapping) else None
        yield name, (service, own) if isinstance(service, str) and isinstance(own, str) else None


def _documents(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _texts(value: object, name: str) -> set[str]:
    return {text for each in _documents(value) if isinstance(text := each.get(name), str)}
