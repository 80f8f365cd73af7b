"""What stands beside the records in etcd: who takes part, and what an operator decided. Keys and JSON values.

    /ambassadors/programs/<kind>/<id>            a running program, under its own lease
    /ambassadors/drains/instances/<service>/<id> an instance that gets no new connections, until somebody takes it back
    /ambassadors/drains/hosts/<host>             the same for every instance of a host

`docs/keys.md` is the contract. As with records, everything is hostile until it has been read.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ambcore.errors import RecordError
from ambcore.model import MAX_INSTANCE, MAX_SERVICE, check_name, join_host_port, parse_ip, split_host_port
from ambcore.schema import MAX_KEY, MAX_VALUE
from ambcore.unreachable import MOMENT, Unreachable, read

DEFAULT_FLEET = "/ambassadors/"

PROGRAMS = "programs/"
DRAINS = "drains/"
INSTANCES = "instances"
HOSTS = "hosts"

MAX_ID = MAX_HOST = MAX_INSTANCE
MAX_VERSION = 64  # characters
MAX_TEXT = 500  # characters of a reason
MAX_OTHERS = 10**9  # a number of 4,300 digits is JSON, and one more than Python prints
NAMES_BYTES = 4096  # of services' names in one announcement: half of MAX_VALUE

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)


class Kind(enum.StrEnum):
    """Programs that announce themselves."""

    REGISTRAR = "registrar"
    DYNPROXY = "dynproxy"


@dataclass(frozen=True, slots=True, order=True)
class Announcement:
    """A running program. `id` is this process's alone, `host` its machine's name, `admin` the URL of its admin server
    without a path, None without one; `services` are those that it serves or registers, `more` how many besides were
    left out. `since` is when it started, in RFC 3339 with a Z. `owner` is whose records a registrar keeps.
    `unreachable` are instances that a proxy's checks do not reach, `others_unreachable` how many besides.
    Raises ValueError.
    """

    kind: Kind
    id: str
    host: str
    version: str
    admin: str | None
    services: tuple[str, ...]
    since: str
    more: int = 0
    owner: str | None = None
    unreachable: tuple[Unreachable, ...] = ()
    others_unreachable: int = 0

    def __post_init__(self) -> None:
        check_name("program", self.id, MAX_ID)
        check_name("host", self.host, MAX_HOST)
        check_name("version", self.version, MAX_VERSION)
        for service in self.services:
            check_name("service", service, MAX_SERVICE)
        if self.owner is not None:
            check_name("owner", self.owner, MAX_INSTANCE)
        if self.admin is not None:
            object.__setattr__(self, "admin", admin_url(*_split_url(self.admin)))
        if not MOMENT.fullmatch(self.since):
            raise ValueError(f"a moment looks like 2026-01-31T12:00:00Z, not {self.since[:40]!r}")
        for what, number in (("services", self.more), ("unreachable instances", self.others_unreachable)):
            if type(number) is not int or not 0 <= number <= MAX_OTHERS:
                raise ValueError(f"the number of other {what} is 0 to {MAX_OTHERS}, not {str(number)[:20]}")

    def admin_from(self, host: str) -> str | None:
        """Its admin server's URL for a tool on the machine `host`: None for a loopback address of another machine."""
        if self.admin is None:
            return None
        name, _ = _split_url(self.admin)
        return None if _is_loopback(name) and self.host != host else self.admin


def admin_url(host: str, port: int) -> str:
    """`http://host:port` of a name or an address that somebody may ask; raises ValueError.

    An announcement makes tools send requests where it says. No admin server has a link-local address, the clouds'
    metadata servers do.
    """
    try:
        ip = parse_ip(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or host.replace(".", "").isdigit():
            raise ValueError(f"not a host's name or address: {host[:80]!r}") from None
        return f"http://{join_host_port(host, port)}"
    if ip.is_unspecified or ip.is_link_local or ip.is_multicast or ip == _BROADCAST:
        raise ValueError(f"{ip} is no address of an admin server")
    return f"http://{join_host_port(str(ip), port)}"


def _split_url(url: str) -> tuple[str, int]:
    if not url.startswith("http://"):
        raise ValueError(f"expected http://HOST:PORT, not {url[:80]!r}")
    return split_host_port(url.removeprefix("http://"))


def _is_loopback(host: str) -> bool:
    try:
        return parse_ip(host).is_loopback
    except ValueError:
        return host == "localhost"


def named(services: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """As many of these, sorted, as an announcement has room for, and how many it has not."""
    names, room = sorted(set(services)), NAMES_BYTES
    for count, name in enumerate(names):
        room -= len(json.dumps(name)) + len(", ")
        if room < 0:
            return tuple(names[:count]), len(names) - count
    return tuple(names), 0


@dataclass(frozen=True, slots=True, order=True)
class Drain:
    """An operator's marker: of one instance (`service`, `instance`) or of a `host`; the other fields are empty.

    `why`, `since` (RFC 3339) and `by` are for people, empty where nobody said. Raises ValueError.
    """

    service: str = ""
    instance: str = ""
    host: str = ""
    why: str = ""
    since: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        if self.host:
            if self.service or self.instance:
                raise ValueError("a marker is of an instance or of a host, not of both")
            check_name("host", self.host, MAX_HOST)
            object.__setattr__(self, "host", _canonical(self.host))
        else:
            check_name("service", self.service, MAX_SERVICE)
            check_name("instance", self.instance, MAX_INSTANCE)
        for text in (self.why, self.since, self.by):
            if len(text) > MAX_TEXT or not text.isprintable():
                raise ValueError(f"a reason is printable text of at most {MAX_TEXT} characters")

    def __str__(self) -> str:
        return f"host {self.host}" if self.host else f"{self.service}/{self.instance}"


def _canonical(host: str) -> str:
    """One spelling for each address; names stay as they are."""
    try:
        return str(parse_ip(host))
    except ValueError:
        return host


# Keys


def program_key(kind: Kind, id: str, fleet: str = DEFAULT_FLEET) -> str:  # noqa: A002 - the field's own name
    """The key of a program's announcement."""
    return f"{fleet}{PROGRAMS}{kind.value}/{id}"


def drain_key(drain: Drain, fleet: str = DEFAULT_FLEET) -> str:
    """The key of an operator's marker."""
    rest = f"{HOSTS}/{drain.host}" if drain.host else f"{INSTANCES}/{drain.service}/{drain.instance}"
    return f"{fleet}{DRAINS}{rest}"


def _parts(key: bytes, prefix: str) -> list[str]:
    """What follows the prefix in a key, between slashes; raises RecordError(`key`)."""
    if len(key) > MAX_KEY:
        raise RecordError("key", f"longer than {MAX_KEY} bytes")
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise RecordError("key", "not UTF-8") from error
    if not text.startswith(prefix):
        raise RecordError("key", f"not under {prefix}: {text!r}")
    return text.removeprefix(prefix).split("/")


# Values


def encode_program(program: Announcement) -> bytes:
    """The value of an announcement. Its kind and id stand in the key."""
    value: dict[str, Any] = {"host": program.host, "version": program.version, "since": program.since}
    if program.admin is not None:
        value["admin"] = program.admin
    value["services"] = list(program.services)
    if program.more:
        value["more"] = program.more
    if program.owner is not None:
        value["owner"] = program.owner
    if program.unreachable:
        value["unreachable"] = [one.document() for one in program.unreachable]
    if program.others_unreachable:
        value["others_unreachable"] = program.others_unreachable
    return json.dumps(value).encode()


def decode_program(key: bytes, value: bytes, fleet: str = DEFAULT_FLEET) -> Announcement:
    """The inverse of `program_key` and `encode_program`, of whatever stands there; raises RecordError."""
    match _parts(key, f"{fleet}{PROGRAMS}"):
        case [kind, name] if kind in set(Kind):
            pass
        case _:
            raise RecordError("key", f"not {fleet}{PROGRAMS}<kind>/<id>: {key.decode()!r}")
    fields = _object(value)
    services = fields.get("services", [])
    if not isinstance(services, list) or not all(isinstance(service, str) for service in services):
        raise RecordError("malformed", '"services" has to be a list of texts')
    try:
        return Announcement(
            kind=Kind(kind),
            id=name,
            host=_text(fields, "host"),
            version=_text(fields, "version"),
            admin=_text_or_none(fields, "admin"),
            services=tuple(services),
            since=_text(fields, "since"),
            more=fields.get("more", 0),
            owner=_text_or_none(fields, "owner"),
            unreachable=read(fields.get("unreachable")),
            others_unreachable=fields.get("others_unreachable", 0),
        )
    except ValueError as error:
        raise RecordError("malformed", str(error)) from error


def encode_drain(drain: Drain) -> bytes:
    """The value of a marker: what it says to people. What it is of stands in the key."""
    said = {"why": drain.why, "since": drain.since, "by": drain.by}
    return json.dumps({name: text for name, text in said.items() if text}).encode()


def decode_drain(key: bytes, value: bytes, fleet: str = DEFAULT_FLEET) -> Drain:
    """The marker under a key; raises RecordError for a key that is none's.

    That it stands there is the decision: a value that cannot be read says nothing, and takes nothing back.
    """
    try:
        match _parts(key, f"{fleet}{DRAINS}"):
            case [kind, service, instance] if kind == INSTANCES:
                marker = Drain(service=service, instance=instance)
            case [kind, host] if kind == HOSTS and host:
                marker = Drain(host=host)
            case _:
                raise RecordError("key", f"not {fleet}{DRAINS}{INSTANCES}/<service>/<instance> or …{HOSTS}/<host>")
    except ValueError as error:
        raise RecordError("key", str(error)) from error
    try:
        fields = _object(value)
        said = {name: text for name in ("why", "since", "by") if isinstance(text := fields.get(name), str)}
        return Drain(marker.service, marker.instance, marker.host, **said)
    except (RecordError, ValueError):
        return marker


def _object(value: bytes) -> dict[str, Any]:
    """The JSON object that a value is; raises RecordError."""
    if len(value) > MAX_VALUE:
        raise RecordError("too_long", f"{len(value)} bytes, the limit is {MAX_VALUE}")
    try:
        loaded = json.loads(value.decode())
    except UnicodeDecodeError as error:
        raise RecordError("not_utf8", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise RecordError("malformed", str(error)) from error
    if not isinstance(loaded, dict):
        raise RecordError("malformed", "a JSON object is expected")
    return loaded


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RecordError("malformed", f'"{name}" has to be a text')
    return value


def _text_or_none(fields: dict[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)
