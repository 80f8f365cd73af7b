"""Whether there is anything new to show: what was said, without what changes all the time and is not shown. Pure."""

from __future__ import annotations

from typing import Any

from ambnet.page.documents import Document, number
from ambnet.page.gather import STALE
from ambnet.page.model import Sight


def essence(sight: Sight) -> object:
    """Something that equals the essence of another moment if the page would show the same, rates and plots apart."""
    said = tuple((each.name, each.error, each.document and _of(each.document)) for each in sight.said)
    etcd = sight.etcd and (sight.etcd.endpoint, sight.etcd.connected, sight.etcd.error, sight.etcd.watching)
    age = sight.etcd.age if sight.etcd else None
    leases = {lease: round(sight.at + left) for lease, left in sight.leases.items()}
    return said, sight.records, leases, sight.drains, etcd, age is not None and age > STALE


def _of(document: Document) -> object:
    """A status document without its ages. Its instances are taken as they are: comparing them is all it costs."""
    services = document.get("services")
    return {
        **document,
        "uptime": None,
        "etcd": _aged(document.get("etcd")),
        "docker": _aged(document.get("docker")),
        "services": [_aged(each) for each in services] if isinstance(services, list) else services,
    }


def _aged(part: Any) -> Any:
    """Part of a document with its age as one of two: new enough, or not."""
    if not isinstance(part, dict):
        return part
    age = number(part, "view_age")
    return {**part, "view_age": age is not None and age > STALE}
