"""Find out about a name: who knows its container, what etcd holds, what a dial comes to, what the proxies see."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from ambcore.fleet import Kind
from ambcore.model import Instance, IPAddress, Protocol
from ambctl.common import Common
from ambctl.explain.dial import dialled
from ambctl.explain.facts import Answer, Facts, Local, Record
from ambctl.explain.fleet import Fleet
from ambctl.explain.local import look
from ambctl.explain.programs import Programs
from ambctl.explain.subject import Names, Subject, collect, resolve
from ambctl.explain.views import differ
from ambnet.announce import host_name
from ambnet.etcd import Etcd

DIALS = 40  # instances that are dialled
SHARE = 0.5  # of the operator's patience, for a program: it reads its own memory, and many are asked at once
SETTLE = 1.0  # seconds after which two views that differ are compared once more: changes take a moment to arrive


@dataclass(frozen=True, slots=True)
class Here:
    """This machine: its Docker daemon's URL, its address as registrar here was told it (None: the one towards etcd),
    the admin servers that are to be asked beside those that are announced, and the machine's name, by which programs on
    its loopback are known.
    """

    docker: str
    advertise: IPAddress | None = None
    ask: tuple[tuple[str, int], ...] = ()
    host: str = field(default_factory=host_name)


async def gather(settings: Common, name: str, here: Here) -> Facts:
    """Everything about a name. Raises ConfigError; that somebody cannot be asked is part of the answer."""
    async with Etcd(settings.etcd_config()) as etcd:
        fleet = Fleet(settings, etcd)
        await fleet.read()
        programs = Programs(fleet.programs, here.host, here.ask, settings.timeout * SHARE)
        await programs.look()
        subject = resolve(name, collect(fleet.listed.items, settings.prefix, fleet.programs, programs.statuses))
        registrars = await programs.explain(Kind.REGISTRAR, subject)
        local = None
        if any(answer.findings for answer in registrars):
            subject = subject if subject.kinds else subject.also("service that nobody registers")
        else:
            subject, local = await _asked_here(subject, here, settings)
        facts = await _seen(Facts(subject, settings.prefix, etcd.endpoint, local=local), fleet, programs, registrars)
        if differ(facts.records, facts.answers, subject):
            await asyncio.sleep(SETTLE)
            await fleet.read()
            await programs.look()
            facts = await _seen(facts, fleet, programs, registrars)
        return replace(facts, records=await _tried(facts.records, fleet))


async def _asked_here(subject: Subject, here: Here, settings: Common) -> tuple[Subject, Local]:
    """With what the Docker daemon here knows of a name that no registrar knows."""
    local, kind = await look(here.docker, subject, settings.etcd_config().endpoints, here.advertise)
    if kind is not None:
        return subject.also(kind, ((one.service, one.id) for one in local.instances)), local
    if subject.kinds:
        return subject, local
    near = Names(containers=dict.fromkeys(local.names, frozenset())).near(subject.name)
    return replace(subject, near=(*subject.near, *near)), local


async def _seen(facts: Facts, fleet: Fleet, programs: Programs, registrars: tuple[Answer, ...]) -> Facts:
    """With the records that are meant, and with what the proxies see of them."""
    mine = {one.container for one in facts.local.instances if one.container} if facts.local else set()
    records = fleet.records(facts.subject, mine)
    subject = replace(facts.subject, keys=facts.subject.keys | {(record.service, record.id) for record in records})
    proxies = await programs.explain(Kind.DYNPROXY, subject)
    return replace(
        facts,
        subject=subject,
        records=records,
        answers=(*registrars, *proxies),
        etcd_error=fleet.error,
        fleet_error=fleet.fleet_error,
    )


async def _tried(records: tuple[Record, ...], fleet: Fleet) -> tuple[Record, ...]:
    """With the time that their leases have left, and with what a dial of the first DIALS came to."""
    found = [(record, record.found) for record in records if isinstance(record.found, Instance)]
    tcp = [one.address for _, one in found if one.protocol is Protocol.TCP][:DIALS]
    left, results = await asyncio.gather(fleet.left({record.item.lease for record in records} - {0}), dialled(tcp))
    return tuple(
        replace(
            record,
            left=left.get(record.item.lease),
            dial=results.get(record.found.address) if isinstance(record.found, Instance) else None,
        )
        for record in records
    )
