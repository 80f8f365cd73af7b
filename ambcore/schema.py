"""Instance <-> (etcd key, JSON value). The only file that knows the key layout; `docs/keys.md` is its contract.

    /services/<service>/<instance>   {"host": "10.132.181.182", "port": 49155, …}

Also read: a plain `host:port` value, as registrator's etcd adapter and many shell scripts write it.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ambcore.errors import RecordError
from ambcore.model import Address, Instance, Protocol, Readiness

DEFAULT_PREFIX = "/services/"
MAX_KEY = 512  # bytes
MAX_VALUE = 8192  # bytes; our own records take about 250
MAX_TAGS = 64
MAX_ATTRIBUTES = 64
MAX_TEXT = 1024  # characters of one tag, attribute or owner


def normal_prefix(prefix: str) -> str:
    """A prefix as it stands in keys: one slash at each end. Raises ValueError for an empty or unprintable one."""
    name = prefix.strip("/")
    if not name or not name.isprintable() or " " in name:
        raise ValueError(f"a prefix is a printable path such as /services/, not {prefix!r}")
    return f"/{name}/"


def service_prefix(service: str, prefix: str = DEFAULT_PREFIX) -> str:
    """The prefix under which every record of one service lies."""
    return f"{prefix}{service}/"


def record_key(service: str, instance: str, prefix: str = DEFAULT_PREFIX) -> str:
    """The key of one instance's record."""
    return f"{prefix}{service}/{instance}"


def split_key(key: bytes, prefix: str = DEFAULT_PREFIX) -> tuple[str, str]:
    """(service, instance) of a record's key; raises RecordError(`key`) for a key of any other shape."""
    if len(key) > MAX_KEY:
        raise RecordError("key", f"longer than {MAX_KEY} bytes")
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise RecordError("key", "not UTF-8") from error
    service, slash, instance = text.removeprefix(prefix).partition("/")
    if not text.startswith(prefix) or not slash or not service or not instance or "/" in instance:
        raise RecordError("key", f"not {prefix}<service>/<instance>: {text!r}")
    return service, instance


def encode_record(instance: Instance) -> bytes:
    """The value of an instance's record: compact JSON, `host` and `port` first, defaults left out."""
    record: dict[str, Any] = {"host": instance.address.host, "port": instance.address.port}
    if {instance.protocol, _protocol_of_id(instance.id)} != {Protocol.TCP}:
        record["protocol"] = instance.protocol.value
    if instance.weight != 1:
        record["weight"] = instance.weight
    if instance.readiness is not Readiness.UP:
        record["state"] = instance.readiness.value
    for name in ("owner", "epoch", "container"):
        if (value := getattr(instance, name)) is not None:
            record[name] = value
    if instance.tags:
        record["tags"] = list(instance.tags)
    if instance.attributes:
        record["attributes"] = dict(instance.attributes)
    return json.dumps(record).encode()


def decode_record(key: bytes, value: bytes, prefix: str = DEFAULT_PREFIX) -> Instance:
    """The instance a record describes. Raises RecordError; whether its address is welcome is `admission`'s question."""
    service, name = split_key(key, prefix)
    if len(value) > MAX_VALUE:
        raise RecordError("too_long", f"{len(value)} bytes, the limit is {MAX_VALUE}")
    try:
        text = value.decode().strip()
    except UnicodeDecodeError as error:
        raise RecordError("not_utf8", str(error)) from error
    try:
        if text.startswith("{"):
            return _from_json(service, name, _load(text))
        return Instance(service, name, Address.parse(text), _protocol_of_id(name))
    except ValueError as error:
        raise RecordError("malformed", str(error)) from error


def _protocol_of_id(instance: str) -> Protocol:
    """Registrator marks UDP in the id (`host:container:port:udp`), as its values have no room for it."""
    return Protocol.UDP if instance.endswith(":udp") else Protocol.TCP


def _load(text: str) -> dict[str, Any]:
    try:
        loaded = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise RecordError("malformed", "nested too deeply") from error
    return loaded if isinstance(loaded, dict) else _refuse("a JSON record is an object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers may disagree on which of two equal names counts: neither does."""
    result = dict(pairs)
    return result if len(result) == len(pairs) else _refuse("a name occurs twice")


def _no_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON")


def _refuse(why: str) -> NoReturn:
    raise RecordError("malformed", why)


def _from_json(service: str, name: str, record: dict[str, Any]) -> Instance:
    host, port = record.get("host"), record.get("port")
    if not isinstance(host, str):
        _refuse('"host" has to be an IP address in quotes')
    if isinstance(port, str):  # shell scripts quote it
        port = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else _refuse('"port" is no number')
    if type(port) is not int:
        _refuse('"port" has to be a number')
    return Instance(
        service=service,
        id=name,
        address=Address(host, port),
        protocol=Protocol(record.get("protocol", _protocol_of_id(name))),
        weight=record.get("weight", 1),
        readiness=Readiness(record.get("state", Readiness.UP)),
        owner=_text(record, "owner"),
        epoch=_text(record, "epoch"),
        container=_text(record, "container"),
        tags=_tags(record.get("tags", [])),
        attributes=_attributes(record.get("attributes", {})),
    )


def _text(record: dict[str, Any], name: str) -> str | None:
    value = record.get(name)
    return value if value is None else _plain(name, value)


def _plain(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        _refuse(f'"{name}" has to be printable text of at most {MAX_TEXT} characters')
    return value


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_TAGS:
        _refuse(f'"tags" has to be a list of at most {MAX_TAGS} texts')
    return tuple(_plain("tags", item) for item in value)


def _attributes(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or len(value) > MAX_ATTRIBUTES:
        _refuse(f'"attributes" has to be an object of at most {MAX_ATTRIBUTES} texts')
    return tuple((_plain("attributes", name), _plain("attributes", text)) for name, text in value.items())
