"""Facts as tests of the explanation need them."""

from __future__ import annotations

from typing import Any

from ambcore.errors import RecordError
from ambcore.findings import Finding
from ambcore.fleet import Announcement, Drain, Kind
from ambcore.health import Result, Verdict
from ambcore.history import KeyValue
from ambcore.model import Address, Instance, Readiness
from ambctl.explain.facts import Answer, Facts, Record
from ambctl.explain.subject import Subject

PREFIX = "/services/"
ADDRESS = Address("10.1.2.3", 80)
PASSED = Result(Verdict.PASSED, 0.001)


def key_value(name: str, value: bytes = b'{"host": "10.1.2.3", "port": 80}', *, lease: int = 0x5F) -> KeyValue:
    return KeyValue(f"{PREFIX}{name}".encode(), value, 12, lease)


def record(
    name: str = "web/one",
    address: Address = ADDRESS,
    *,
    lease: int = 0x5F,
    left: int | None = 8,
    dial: Result | None = PASSED,
    marker: Drain | None = None,
    readiness: Readiness = Readiness.UP,
    refused: RecordError | None = None,
) -> Record:
    """A record in order; the keywords change details."""
    service, own = name.split("/")
    found = refused or Instance(service, own, address, owner="host-a", readiness=readiness)
    return Record(key_value(name, lease=lease), found, service, own, left, marker, dial)


def program(kind: Kind = Kind.DYNPROXY, host: str = "host-b", *services: str, admin: str | None = None) -> Announcement:
    return Announcement(kind, f"{kind.value}-{host}", host, "1", admin, services, "2026-01-02T03:04:05Z")


def service(*instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A proxy's service `web` in its status document."""
    usual = {"name": "web", "instances": list(instances), "refused": [], "revision": 12, "view_age": 3.0, "error": None}
    return usual | more


def item(name: str = "one", address: str = "10.1.2.3:80", state: str = "up", check: str = "up") -> dict[str, Any]:
    return {"id": name, "address": address, "state": state, "check": {"state": check, "seconds": 0.001, "why": ""}}


def proxy(*services: dict[str, Any], findings: tuple[Finding, ...] = (), why_not: str = "") -> Answer:
    status = {"services": list(services), "etcd": {"last_error": "cut off"}}
    return Answer(program(Kind.DYNPROXY, "host-b", "web"), why_not, status, findings)


def registrar(*findings: Finding, why_not: str = "") -> Answer:
    return Answer(program(Kind.REGISTRAR, "host-a"), why_not, findings=findings)


WEB = Subject("web", ("service",), frozenset({("web", "one")}))


def facts(*records: Record, answers: tuple[Answer, ...] = (), subject: Subject = WEB, **more: Any) -> Facts:
    return Facts(subject, PREFIX, "http://etcd:2379", records=records, answers=answers, **more)
