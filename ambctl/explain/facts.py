"""What was found out about a name, as values. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ambcore.errors import RecordError
from ambcore.findings import Finding
from ambcore.fleet import Announcement, Drain
from ambcore.health import Result
from ambcore.history import KeyValue
from ambcore.model import Instance
from ambctl.explain.subject import Subject


@dataclass(frozen=True, slots=True)
class Record:
    """A record as etcd has it now, read or refused. `left` are the seconds of its lease, None if that has ended or
    there is none; `marker` is the operator's by which it is drained; `dial` what came of a dial from here.
    """

    item: KeyValue
    found: Instance | RecordError
    service: str
    id: str
    left: int | None = None
    marker: Drain | None = None
    dial: Result | None = None

    @property
    def name(self) -> str:
        """`service/instance`, as it stands in the key."""
        return f"{self.service}/{self.id}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program that is announced answered. `why_not` says why it could not be asked; else `status` is its status
    document as it sent it, and `findings` what it knows of the name.
    """

    program: Announcement
    why_not: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Local:
    """What the Docker daemon here tells. `why_not` says why it could not be asked; `instances` are what registrar with
    default options would register of the containers that the name means, `names` all containers.
    """

    url: str
    why_not: str = ""
    findings: tuple[Finding, ...] = ()
    instances: tuple[Instance, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything. `etcd_error` is why etcd could not be asked, `fleet_error` why it did not tell who takes part.
    `local` is None where nobody had to ask Docker here.
    """

    subject: Subject
    prefix: str
    endpoint: str
    etcd_error: str = ""
    fleet_error: str = ""
    records: tuple[Record, ...] = ()
    answers: tuple[Answer, ...] = ()
    local: Local | None = None
