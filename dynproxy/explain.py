"""PURE: what this proxy says when it is asked for a service or an instance, from its status document.

In the order in which one thing depends on another: is it followed, is the view of it current, which records were
refused, which instances take clients and why others do not, how the clients fare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ambcore.findings import Finding, Level

Document = Mapping[str, Any]

OLD = 20.0  # seconds; a quiet watch is asked for a sign of life every 10, and has 5 to give it
EACH = 8  # instances of a service that are told of one by one; of more, only those that are not well
MOST = 20  # lines of one kind


def explain(name: str, status: Document) -> tuple[Finding, ...]:
    """What is known of a service, of an instance with or without its service, or of a container that this proxy stands
    for; nothing where it has none of that name.
    """
    findings: list[Finding] = [*_containers(name, status.get("docker"))]
    for service in status["services"]:
        instance = _instance_meant(name, service)
        if instance is not None:
            findings += _service(service, instance, status)
    return tuple(findings)


def _instance_meant(name: str, service: Document) -> str | None:
    """The instance that a name means in a service; empty for the service itself, None if it means neither."""
    own = str(service["name"])
    if name == own or name.startswith(f"{own}/"):
        return name.removeprefix(own).removeprefix("/")
    known = {item["id"] for item in service["instances"] or ()} | {_last(entry["key"]) for entry in service["refused"]}
    return name if name in known else None


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _service(service: Document, instance: str, status: Document) -> Iterator[Finding]:
    name, ports = service["name"], ", ".join(map(str, service["ports"]))
    place = f"listens on port {ports} for {name}" if ports else f"follows {name} and listens for it nowhere yet"
    yield Finding(Level.GREEN, "proxy", f"{place}, carried by the {service['plane']}: {service['plane_why']}")
    kernel = status["plane"]["kernel"]
    if kernel is not None and kernel["error"]:
        text = f"the kernel's rules could not be changed: {kernel['error']}"
        yield Finding(Level.AMBER, "plane", text, "see its log; nft list ruleset shows whose rules stand in the way")
    yield from _view(service, status)
    if service["instances"] is None:
        return
    yield from _refused(service, instance)
    yield from _one(service, instance) if instance else _all(service)
    yield from _clients(service)


def _view(service: Document, status: Document) -> Iterator[Finding]:
    """Whether what it knows of the service is known at all, and current."""
    name, age, etcd = service["name"], service["view_age"], status.get("etcd")
    why = service.get("error") or (etcd or {}).get("last_error") or "no answer"
    source = "etcd" if etcd is not None else "docker"
    look = f"see why {source} does not answer on that host: ambctl doctor there"
    if service["instances"] is None:
        yield Finding(Level.RED, "view", f"has not heard yet who serves {name}, its clients wait: {why}", look)
    elif service["watch"] != "watching":
        text = f"what it knows of {name} is {_seconds(age)} old, changes since are not seen: {why}"
        yield Finding(Level.AMBER, "view", text, look)
    elif age is not None and age > OLD:
        text = f"what it knows of {name} was last proven current {_seconds(age)} ago: {source} is silent"
        yield Finding(Level.AMBER, "view", text, look)
    else:
        upto = f", complete up to revision {service['revision']}" if service["revision"] else ""
        yield Finding(Level.GREEN, "view", f"sees {name} as it is{upto}; proven {_seconds(age)} ago")


def _seconds(age: float | None) -> str:
    return "an unknown time" if age is None else f"{age:.1f} s" if age < 10 else f"{age:.0f} s"


def _refused(service: Document, instance: str) -> Iterator[Finding]:
    entries = [entry for entry in service["refused"] if not instance or _last(entry["key"]) == instance]
    for entry in entries[:MOST]:
        do = "correct the record; docs/keys.md says what is read"
        if "--instances-in" in entry["why"]:
            do = "let --instances-in of this proxy hold the address, or register another"
        yield Finding(Level.RED, "record", f"refuses {entry['key']}: {entry['why']}", do)
    if len(entries) > MOST:
        yield Finding(Level.RED, "record", f"refuses {len(entries) - MOST} records more")


def _one(service: Document, instance: str) -> Iterator[Finding]:
    """The instance that is asked for."""
    items = [item for item in service["instances"] if item["id"] == instance]
    yield from map(_instance, items)
    if not items and not any(_last(entry["key"]) == instance for entry in service["refused"]):
        count = len(service["instances"])
        text = f"does not see {service['name']}/{instance}; it knows {count} other instance{'' if count == 1 else 's'}"
        yield Finding(Level.RED, "instance", text, "see whether its record stands in etcd, and whether the view is old")


def _all(service: Document) -> Iterator[Finding]:
    """Every instance, or, of many, those that are not well."""
    items: Sequence[Document] = service["instances"]
    told = [_instance(item) for item in items]
    if len(items) > EACH:
        states = Counter(item["state"] for item in items)
        text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        yield Finding(Level.GREEN, "instances", f"{len(items)} instances: {text}")
        told = [finding for finding in told if finding.level is not Level.GREEN]
    yield from told[:MOST]
    if len(told) > MOST:
        yield Finding(Level.AMBER, "instances", f"{len(told) - MOST} more are not well")


def _instance(item: Document) -> Finding:
    name = f"{item['id']} at {item['address']}"
    check, failures = item["check"], item["connect_failures"]
    failed = f"; {failures} connect{'' if failures == 1 else 's'} to it failed" if failures else ""
    look = "see whether it listens, and whether a firewall stands between"
    if check is not None and check["state"] == "down":
        return Finding(Level.RED, "instance", f"{name} does not answer checks: {check['why']}{failed}", look)
    if item.get("refusing"):
        return Finding(Level.RED, "instance", f"{name} refused a client within the last seconds{failed}", look)
    if item["state"] == "ejected":
        return Finding(Level.RED, "instance", f"{name} is passed over, as connects to it failed{failed}", look)
    if held := item.get("held"):
        text = f"{name} is served on though its record is gone, as {held['why']}{failed}"
        return Finding(Level.AMBER, "instance", text, "see its registrar: ambctl doctor on that host")
    if item["state"] == "draining":
        text = f"{name} gets no new connections: {_drained(item.get('drained'))}; {item['connections']} open"
        return Finding(Level.AMBER, "instance", text, "ambctl undrain takes an operator's drain back")
    if check is not None and check["state"] == "suspect":
        return Finding(Level.AMBER, "instance", f"{name} failed its last check: {check['why']}{failed}", look)
    answer = "is not checked" if check is None else "answers"
    if check is not None and check["seconds"] is not None:
        answer += f" in {check['seconds'] * 1000:.1f} ms"
    last = f"; its last failure was: {check['why']}" if check is not None and check["why"] else ""
    return Finding(Level.GREEN, "instance", f"{name} {answer}; {item['connections']} open{failed}{last}")


def _drained(marker: Document | None) -> str:
    """Who says that an instance drains."""
    if marker is None:
        return "its record says that it drains"
    what = f"all of host {marker['host']} is drained" if marker["host"] else "it is drained"
    since = f" since {marker['since']}" if marker["since"] else ""
    why = f": {marker['why']}" if marker["why"] else ""
    return f"{what} by {marker['by'] or 'an operator'}{since}{why}"


def _clients(service: Document) -> Iterator[Finding]:
    """Whether new connections find somebody."""
    name, parked = service["name"], service["parked"]
    waiting = f"; {parked} wait now" if parked else ""
    taking = [item for item in service["instances"] if item["state"] != "draining"]
    if not service["instances"]:
        text = f"knows no instance of {name}: new clients wait for one, then are closed{waiting}"
        yield Finding(Level.RED, "clients", text, "register one, or see why there is no record")
    elif not taking:
        text = f"every instance of {name} drains: nobody takes new connections{waiting}"
        yield Finding(Level.RED, "clients", text, "take a drain back: ambctl undrain")
    elif parked:
        text = f"{parked} clients of {name} wait for an instance that answers"
        yield Finding(Level.RED, "clients", text, "see the instances above")


def _containers(name: str, docker: Document | None) -> Iterator[Finding]:
    """The containers that this proxy stands for without a registry."""
    for item in (docker or {}).get("containers") or ():
        if item["name"] != name:
            continue
        if not item["exists"]:
            do = "start it, or correct the name: docker ps -a lists what there is"
            yield Finding(Level.RED, "container", f"no container is called {name}; its clients wait", do)
        elif item["why"]:
            yield Finding(Level.RED, "container", f"{name} gets no clients: {item['why']}", f"docker inspect {name}")
        else:
            text = f"{name} is reached at {item['address']}, ports {', '.join(item['ports'])}"
            yield Finding(Level.GREEN, "container", text)
