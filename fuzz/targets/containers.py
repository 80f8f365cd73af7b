"""What a Docker daemon, or who stands in for it, answers; and what people write into labels and variables."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

from ambcore import shape
from ambcore.links import LABEL, MAX_LINKS, parse_links, variables
from ambcore.model import Instance
from ambcore.networks import parse_network
from ambcore.registration.conventions import Conventions, find
from ambcore.registration.essence import essence
from ambcore.registration.explain import explain_container, explain_wish
from ambcore.registration.extract import Host, Wish, extract, run_of, unreachable
from ambcore.schema import decode_record, encode_record, record_key
from ambnet.dockerd import parse_event
from dynproxy.consumers import Standing, consumer_of, wanted
from dynproxy.exposed import Here, assigned, exposed, instances_of
from fuzz.feed import Feed

ID = "4f" * 32
HOST = Host(ip_address("192.0.2.1"), ip_address("10.0.0.9"), (ip_network("172.17.0.0/16"),))
HOSTS = (HOST, Host(route=ip_address("172.18.0.2"), bridges=(ip_network("172.18.0.0/16"),)), Host())
CONVENTIONS = (
    Conventions("core-01"),
    Conventions("core-01", explicit=True, tags=("all",)),
    Conventions("core-01", internal=True, network="bridge"),
)
HERE = Here(frozenset({ip_address("172.17.0.2")}), frozenset({ip_address("172.17.0.3")}), ip_address("127.0.0.1"))
BOUND = [{"HostIp": "0.0.0.0", "HostPort": "49155"}, {"HostIp": "::", "HostPort": "49155"}]  # noqa: S104
WHOLE: dict[str, Any] = {
    "Id": ID,
    "Name": "/redis-demo",
    "Created": "2026-01-02T03:04:05.1Z",
    "State": {
        "Status": "running",
        "Running": True,
        "StartedAt": "2026-01-02T03:04:05.123456789Z",
        "Health": {"Status": "healthy", "Log": [{"ExitCode": 0, "Output": "ok"}]},
    },
    "Config": {
        "Image": "registry:5000/team/redis:8@sha256:00",
        "Env": ["PATH=/bin", "SERVICE_NAME=redis-A", "SERVICE_6379_TAGS=a,b\\,c"],
        "Labels": {"SERVICE_53_ID": "dns", LABEL: "redis-A:6379,cache=pg:5432", "ambassador.network": ""},
        "ExposedPorts": {"6379/tcp": {}, "53/udp": {}},
    },
    "HostConfig": {"NetworkMode": "default", "PortBindings": {"6379/tcp": [{}]}, "PublishAllPorts": False},
    "NetworkSettings": {
        "Ports": {"6379/tcp": BOUND, "53/udp": [{"HostIp": "10.0.0.9", "HostPort": "53"}], "80/tcp": None},
        "Networks": {"bridge": {"IPAddress": "172.17.0.5", "GlobalIPv6Address": "", "IPPrefixLen": 16}, "n": None},
    },
}
ODD_PORTS = ("000080/tcp", "00080/tcp", "0/udp", "65536/tcp", "80/TCP", "6379", "/tcp", f"{'9' * 5000}/tcp")
NETWORK: dict[str, Any] = {
    "Name": "bridge",
    "Driver": "bridge",
    "Internal": False,
    "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}, {"Subnet": "fd00::/64"}]},
}
EVENT: dict[str, Any] = {
    "Type": "container",
    "Action": "health_status: healthy",
    "Actor": {"ID": ID, "Attributes": {"name": "redis", "oldName": "/r", "exitCode": "0", "signal": "15"}},
    "time": 1767323045,
    "timeNano": 1767323045123456789,
}


def container(data: bytes) -> None:
    """An inspection with some of it changed: whoever has the right shape is decided on, by all who decide."""
    feed = Feed(data)
    host, conventions = feed.pick(HOSTS), feed.pick(CONVENTIONS)
    document = feed.changed(WHOLE)
    for _ in range(feed.below(3)):  # labels and variables, which anybody may set who may start a container
        document = _with(document, "Config", "Labels", {feed.text(): feed.text()})
    for _ in range(feed.below(3)):
        document = _with(document, "Config", "ExposedPorts", {feed.pick(ODD_PORTS): {}})
        document = _with(document, "NetworkSettings", "Ports", {feed.pick(ODD_PORTS): BOUND})
    try:
        inspected = shape.container(document)
    except ValueError:
        return
    found = find(inspected, conventions, host)
    assert find(essence(inspected), conventions, host) == found
    for instance in found.instances:
        _hold(instance)
        assert conventions.internal or unreachable(instance.address.ip, host.docker0) is None
    assert len({(each.service, each.id) for each in found.instances}) == len(found.instances)
    explain_container(inspected, conventions, host, asked=feed.text())
    wish = Wish(feed.pick(("redis-demo", ID, ID[:12], feed.text())), feed.pick((6379, 80, 53)), "redis-A")
    one = extract(inspected, wish, host)
    if isinstance(one, Instance):
        _hold(one)
    explain_wish(inspected, wish, host)
    run_of(inspected)
    _locally(inspected)


def _with(document: Any, part: str, field: str, more: dict[str, Any]) -> Any:
    """The document with more in one of its objects, if it still has that part."""
    if not isinstance(document, dict) or not isinstance(found := document.get(part), dict):
        return document
    before = found.get(field)
    return document | {part: found | {field: (before if isinstance(before, dict) else {}) | more}}


def _hold(instance: Instance) -> None:
    """It can be written, and whoever reads it reads the same."""
    key = record_key(instance.service, instance.id).encode()
    value = encode_record(instance)
    if len(key) <= 400 and len(value) <= 4096:
        assert decode_record(key, value) == instance


def _locally(inspected: dict[str, Any]) -> None:
    """What a proxy on the container's own host makes of it."""
    item = exposed(inspected, "redis-demo", HERE)
    for door in assigned({}, ["redis-demo"], {"redis-demo": item}):
        instances_of("redis-demo", door[0], [door], item)
    if (consumer := consumer_of(inspected)) is not None:
        wanted([consumer], [parse_network(NETWORK)], [ip_address("172.17.0.1")], [Standing("redis-A", 6379)])


def links(data: bytes) -> None:
    """The label by which a consumer asks for services."""
    text = data.decode(errors="surrogateescape")
    try:
        found = parse_links(text)
    except ValueError:
        return
    assert 1 <= len(found) <= MAX_LINKS
    assert parse_links(",".join(map(str, found))) == found
    try:
        made = variables(found, "10.0.0.1")
    except ValueError:
        return
    for name, value in made.items():
        assert name.isascii()
        assert value.isprintable()
        assert "=" not in name


def event(data: bytes) -> None:
    """A line of the events' stream; and a network, and a list, as they come of the bytes."""
    feed = Feed(data)
    line = json.dumps(feed.changed(EVENT)).encode() if feed.byte() % 2 else feed.rest()
    if (heard := parse_event(line)) is not None:
        assert heard.container
        assert heard.action
    for read in (shape.networks, shape.containers):
        try:
            answered = read([feed.changed(NETWORK if read is shape.networks else {"Id": ID, "Names": ["/a"]})])
        except ValueError:
            continue
        if read is shape.networks:
            parse_network(answered[0], [ip_address("172.17.0.1")])
