"""Ask the Docker daemon here for a container, and decide on it as registrar does with its default options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ambcore.errors import DockerError
from ambcore.findings import Finding
from ambcore.model import Instance
from ambcore.registration.conventions import Conventions, find
from ambcore.registration.explain import explain_container
from ambcore.registration.extract import Host
from ambcore.registration.labels import mentions
from ambctl.explain.facts import Local
from ambctl.explain.subject import SHORT_ID, Subject
from ambnet.dockerd import Engine
from ambnet.route import route_to

MOST = 200  # containers that are inspected to see whether one of them means the name
TOLD = 10  # containers that are told of


async def look(url: str, subject: Subject, endpoints: tuple[str, ...]) -> tuple[Local, str | None]:
    """What the daemon tells, and what it knows the name as: a container, a service, or None for neither."""
    try:
        async with Engine(url) as engine:
            await engine.connect()
            return await _look(engine, subject, endpoints)
    except DockerError as error:
        return Local(url, why_not=str(error)), None


async def _look(engine: Engine, subject: Subject, endpoints: tuple[str, ...]) -> tuple[Local, str | None]:
    listed, info, bridges = await engine.list(), await engine.info(), await engine.bridges()
    every = tuple(network for subnets in bridges.values() for network in subnets)
    host = Host(None, await route_to(endpoints)(), bridges.get("bridge", ()), every)
    conventions = Conventions(info.name)
    names = tuple(sorted(listed.values()))
    called = [each for each, name in listed.items() if _is_called(each, name, subject.name)]
    asked = "" if called else subject.name.partition("/")[0]
    findings: list[Finding] = []
    instances: list[Instance] = []
    told = 0
    for identity in called or list(listed)[:MOST]:
        inspected = await engine.inspect(identity)
        if inspected is None or told == TOLD:
            continue
        made = find(inspected, conventions, host).instances
        if called or _means(inspected, made, subject.name):
            findings += explain_container(inspected, conventions, host, asked=asked)
            instances += [
                one for one in made if called or subject.name in (one.service, one.id, f"{one.service}/{one.id}")
            ]
            told += 1
    kind = ("container" if called else "service") if told else None
    return Local(engine.url, findings=tuple(findings), instances=tuple(instances), names=names), kind


def _is_called(identity: str, container: str, name: str) -> bool:
    return name in (identity, container) or (len(name) >= SHORT_ID and identity.startswith(name))


def _means(inspected: Mapping[str, Any], made: tuple[Instance, ...], name: str) -> bool:
    """Whether one of its instances is meant, or it says the name in vain."""
    return mentions(inspected, name) or any(name in (one.service, one.id, f"{one.service}/{one.id}") for one in made)
