"""Whether there is anything new to show: what was said, without what changes all the time and is not shown. Pure."""

from __future__ import annotations

from typing import Any

from ambnet.page.documents import Document, number
from ambnet.page.gather import STALE
from ambnet.page.model import Sight


def essence(sight: Sight) -> object:
    """Something that equals the essence of another moment if the page would show the same, rates and plots apart."""
    said = tuple((each.name, each.error, each.document and _of(each.document), each.unreachable) for each in sight.said)
    etcd = sight.etcd and (sight.etcd.endpoint, sight.etcd.connected, sight.etcd.error, sight.etcd.watching)
    age = sight.etcd.age if sight.etcd else None
    return said, sight.records, sight.leases, etcd, age is not None and age > STALE


def _of(document: Document) -> object:
    """A status document without its ages, and without how long each check took."""
    services = document.get("services")
    return {
        **_aged(document),
        "uptime": None,
        "services": [_of_service(each) for each in services] if isinstance(services, list) else services,
    }


def _of_service(service: Any) -> Any:
    if not isinstance(service, dict) or not isinstance(rows := service.get("instances"), list):
        return _aged(service)
    return {**_aged(service), "instances": [_of_instance(row) for row in rows]}


def _of_instance(row: Any) -> Any:
    if not isinstance(row, dict) or not isinstance(check := row.get("check"), dict):
        return row
    return {**row, "check": (check.get("state"), check.get("why"))}


def _aged(part: Any) -> Any:
    """Part of a document with every age as one of two: new enough, or not."""
    if not isinstance(part, dict):
        return part
    return {name: _is_old(part, name) if name == "view_age" else _aged(value) for name, value in part.items()}


def _is_old(part: Document, name: str) -> bool | None:
    age = number(part, name)
    return None if age is None else age > STALE
