"""What etcd and every proxy must say while nothing is wrong, and whether they do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tests.soak.docker_host import SERVICES
from tests.soak.ours import Ours
from tests.soak.scene import Scene

# Seconds from a fault's end: members elect, leases are granted, the ejection of a repeated offender ends.
RIGHT_WITHIN = 75.0
LOOK_EVERY = 0.5  # seconds: a look costs etcdctl and a request to each


def oddities(scene: Scene) -> list[str]:
    """What differs from what must be, now; an AssertionError while somebody cannot be asked."""
    return [*_records(scene), *(odd for proxy in scene.proxies.values() for odd in _proxy(scene, proxy))]


def _records(scene: Scene) -> Iterator[str]:
    wanted = {
        f"/services/{each.service}/{each.id}": each.address for name in SERVICES for each in scene.instances(name)
    }
    found = {}
    for key, value in scene.etcd.records("/services/").items():
        record = json.loads(value)
        found[key] = f"{record['host']}:{record['port']}" + (" draining" if record.get("state") == "draining" else "")
    yield from _differences("etcd", found, wanted)


def _proxy(scene: Scene, proxy: Ours) -> Iterator[str]:
    document = proxy.status()
    for service in document["services"]:
        name = service["name"]
        items = service["instances"] or []
        found = {item["id"]: f"{item['address']} {item['state']}" for item in items}
        wanted = {each.id: f"{each.address} up" for each in scene.instances(name)}
        yield from _differences(f"{proxy.name}, {name}", found, wanted)
        plane = proxy.name.split()[-1].partition("-")[0]
        if service["plane"] != plane:
            yield f"{proxy.name}: {name} is served by the {service['plane']}: {service['plane_why']}"
        if service["refused"]:
            yield f"{proxy.name}: {name} has refused records left: {service['refused']}"


def _differences(whose: str, found: dict[str, str], wanted: dict[str, str]) -> Iterator[str]:
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            yield f"{whose}: {key} is {found.get(key)} and should be {wanted.get(key)}"


def wait_right(scene: Scene, seconds: float = RIGHT_WITHIN) -> float:
    """How long it took until everything was as it must be; an AssertionError with what is not, if it takes too long."""
    started = time.monotonic()
    while True:
        try:
            found = oddities(scene)
        except AssertionError as error:
            found = [str(error)]
        if not found:
            return time.monotonic() - started
        assert time.monotonic() < started + seconds, "; ".join(found[:6])
        time.sleep(LOOK_EVERY)
