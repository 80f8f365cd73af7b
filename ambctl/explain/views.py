"""Where a proxy's view of a service and etcd's records differ. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ambcore.findings import Finding, Level
from ambcore.fleet import Kind
from ambcore.model import Instance
from ambctl.explain.facts import Answer, Record
from ambctl.explain.subject import Subject

MAX_TEXT = 300  # characters that a proxy may say of one thing
MAX_AGE = 1e9  # seconds; what is older was never young
TOLD = 5  # differences of one proxy that are told of

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """An instance that a proxy sees otherwise than etcd has it; empty for "not at all"."""

    instance: str
    proxy: str
    etcd: str

    def __str__(self) -> str:
        has = f"has {self.instance} at {self.proxy}" if self.proxy else f"does not have {self.instance}"
        return f"{has}, etcd has it {f'at {self.etcd}' if self.etcd else 'no more'}"


def differ(records: Iterable[Record], answers: Iterable[Answer], subject: Subject) -> bool:
    """Whether any proxy that answered sees another address, or none, or one that is no more."""
    return any(stale(answer, records, subject) for answer in answers)


def stale(answer: Answer, records: Iterable[Record], subject: Subject) -> tuple[Finding, ...]:
    """Red for each service of which a proxy has another picture than etcd."""
    if answer.program.kind is not Kind.DYNPROXY or answer.why_not:
        return ()
    return tuple(
        _finding(service, differences, answer.status)
        for service in services_of(answer.status)
        if service["name"] in subject.services and (differences := [*_differences(service, records, subject)])
    )


def services_of(status: Document) -> Iterator[Document]:
    """The services of a proxy's status document that can be read."""
    return (each for each in _documents(status.get("services")) if isinstance(each.get("name"), str))


def instances_of(service: Document) -> dict[str, Document] | None:
    """The instances of a service by id; None while they are not known."""
    instances = service.get("instances")
    if not isinstance(instances, list):
        return None
    return {each["id"]: each for each in _documents(instances) if isinstance(each.get("id"), str)}


def _documents(value: object) -> list[Document]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def reached(answers: Iterable[Answer], record: Record) -> bool:
    """Whether the checks of some proxy say that the instance answers where the record says it is."""
    for answer in answers:
        for service in services_of(answer.status):
            item = (instances_of(service) or {}).get(record.id) if service["name"] == record.service else None
            check = item.get("check") if item is not None else None
            passed = isinstance(check, Mapping) and check.get("state") == "up" and check.get("seconds") is not None
            if item is not None and passed and isinstance(record.found, Instance):
                return str(record.found.address) == item.get("address")
    return False


def _differences(service: Document, records: Iterable[Record], subject: Subject) -> Iterator[Difference]:
    known = instances_of(service)
    if known is None:
        return
    mine = {record.id: record for record in records if record.service == service["name"]}
    refused = {_id_of(each) for each in _documents(service.get("refused"))}
    for name, record in mine.items():
        if isinstance(record.found, Instance) and name not in refused:
            seen, now = _as_seen(known.get(name)), str(record.found.address)
            drains = record.marker is not None or not record.found.takes_new
            if seen != now or (drains and known[name].get("state") == "up"):
                yield Difference(name, seen, f"{now}, draining" if drains else now)
    for name, item in known.items():
        if name not in mine and (service["name"], name) in subject.keys:
            yield Difference(name, _as_seen(item), "")


def _as_seen(item: Document | None) -> str:
    return "" if item is None else str(item.get("address", ""))[:MAX_TEXT]


def _id_of(entry: Document) -> str:
    return str(entry.get("key", "")).rpartition("/")[2]


def _finding(service: Document, differences: list[Difference], status: Document) -> Finding:
    age, etcd = service.get("view_age"), status.get("etcd")
    said = service.get("error") or (etcd.get("last_error") if isinstance(etcd, Mapping) else None)
    since = f" for {age:.0f} s" if isinstance(age, int | float) and 0 <= age < MAX_AGE else ""
    revision = at if isinstance(at := service.get("revision"), int) else "?"
    why = f": {str(said)[:MAX_TEXT]}" if said else ""
    more = f", and {len(differences) - TOLD} more" if len(differences) > TOLD else ""
    text = (
        f"its view is stale: it {'; it '.join(map(str, differences[:TOLD]))}{more}; it has not heard from etcd{since}, "
        f"and stands at revision {revision}{why}"
    )
    return Finding(Level.RED, "view", text, "see why etcd does not answer on its host: ambctl doctor there")
