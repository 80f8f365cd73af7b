"""Ask the Docker daemon here for a container, and decide on it as registrar does with its default options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ambcore.errors import DockerError
from ambcore.findings import Finding, Level
from ambcore.model import Instance, IPAddress
from ambcore.registration.conventions import Conventions, find
from ambcore.registration.explain import explain_container, in_brief
from ambcore.registration.extract import WHAT_TO_SET, Host, name_of
from ambcore.registration.labels import mentions
from ambctl.explain.facts import Local
from ambctl.explain.subject import SHORT_ID, Subject
from ambnet.dockerd import Engine
from ambnet.route import route_to

MOST = 200  # containers that are inspected to see whether one of them means the name
TOLD = 10  # containers that are told of


async def look(
    url: str, subject: Subject, endpoints: tuple[str, ...], advertise: IPAddress | None
) -> tuple[Local, str | None]:
    """What the daemon tells, and what it knows the name as: a container, a service, or None for neither."""
    try:
        async with Engine(url) as engine:
            await engine.connect()
            return await _look(engine, subject, endpoints, advertise)
    except DockerError as error:
        return Local(url, why_not=str(error)), None


async def _look(
    engine: Engine, subject: Subject, endpoints: tuple[str, ...], advertise: IPAddress | None
) -> tuple[Local, str | None]:
    listed, info, bridges = await engine.list(), await engine.info(), await engine.bridges()
    every = tuple(network for subnets in bridges.values() for network in subnets)
    host = Host(advertise, None if advertise else await route_to(endpoints)(), bridges.get("bridge", ()), every)
    conventions = Conventions(info.name)
    names = tuple(sorted(listed.values()))
    called = [each for each, name in listed.items() if _is_called(each, name, subject.name)]
    asked = "" if called else subject.name.partition("/")[0]
    told: list[tuple[str, tuple[Finding, ...]]] = []
    instances: list[Instance] = []
    for identity in called or list(listed)[:MOST]:
        inspected = await engine.inspect(identity)
        if inspected is None or len(told) == TOLD:
            continue
        made = find(inspected, conventions, host).instances
        if called or _means(inspected, made, subject.name):
            steps = explain_container(inspected, conventions, host, asked=asked)
            told.append((name_of(inspected), tuple(map(_as_far_as_known, steps))))
            instances += [
                one for one in made if called or subject.name in (one.service, one.id, f"{one.service}/{one.id}")
            ]
    brief = len(told) > 1
    findings = tuple(step for name, steps in told for step in (in_brief(name, steps) if brief else steps))
    kind = ("container" if called else "service") if told else None
    return Local(engine.url, findings=findings, instances=tuple(instances), names=names), kind


def _as_far_as_known(step: Finding) -> Finding:
    """Not red for want of what registrar on this host may have been told."""
    if step.do != WHAT_TO_SET:
        return step
    do = "ask with --advertise and the address that registrar here has; without one, it needs it"
    return replace(step, level=Level.UNKNOWN, do=do)


def _is_called(identity: str, container: str, name: str) -> bool:
    return name in (identity, container) or (len(name) >= SHORT_ID and identity.startswith(name))


def _means(inspected: Mapping[str, Any], made: tuple[Instance, ...], name: str) -> bool:
    """Whether one of its instances is meant, or it says the name in vain."""
    return mentions(inspected, name) or any(name in (one.service, one.id, f"{one.service}/{one.id}") for one in made)
