"""Find out about a name: etcd's records, what every announced program knows, what a dial from here comes to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ambcore.drains import Drains
from ambcore.errors import RecordError, RegistryError
from ambcore.findings import Finding
from ambcore.fleet import Announcement, Kind
from ambcore.health import Result
from ambcore.history import Listed
from ambcore.model import Address, Instance
from ambcore.model import Protocol as Transport
from ambcore.schema import split_key
from ambcore.table import Reader
from ambctl.asked import time_left
from ambctl.common import Common, patience
from ambctl.explain.facts import Answer, Facts, Record
from ambctl.explain.local import look
from ambctl.explain.subject import Key, Subject, collect, resolve
from ambctl.explain.views import differ
from ambnet.asking import Failure, ask
from ambnet.etcd import Etcd
from ambnet.fleet import drains, programs
from ambnet.tcpcheck import knock

ANSWER = 2.0  # seconds that a program has to answer; it reads its own memory
DIAL = 1.0  # seconds for a dial's handshake, as a kernel waits before it asks a second time
MOST = 40  # instances that are looked at one by one, and questions to one program
FINDINGS = 400  # lines of one program
SETTLE = 1.0  # seconds after which two views that differ are compared once more: changes take a moment to arrive


class Fleet:
    """What etcd tells of the records and of those who take part. `read` asks; may be called again."""

    def __init__(self, settings: Common, fleet_prefix: str, etcd: Etcd) -> None:
        self.listed = Listed((), 0)
        self.programs: tuple[Announcement, ...] = ()
        self.drains = Drains()
        self.error = self.fleet_error = ""
        self._settings = settings
        self._fleet_prefix = fleet_prefix
        self._etcd = etcd

    async def read(self) -> None:
        """Ask for all; what fails is said in `error` and `fleet_error`."""
        try:
            async with patience(self._settings, self._etcd):
                self.listed = await self._etcd.list(self._settings.prefix.encode())
        except RegistryError as error:
            self.error = str(error)
            return
        try:
            async with patience(self._settings, self._etcd):
                self.programs = await programs(self._etcd, self._fleet_prefix)
                self.drains = await drains(self._etcd, self._fleet_prefix)
        except RegistryError as error:
            self.fleet_error = str(error)

    async def left(self, leases: Iterable[int]) -> dict[int, int | None]:
        """The seconds that these leases have left, None for one that has ended. What etcd does not tell is left out."""
        try:
            async with patience(self._settings, self._etcd):
                return await time_left(self._etcd, leases)
        except RegistryError:
            return {}


async def gather(settings: Common, name: str, fleet_prefix: str, docker: str, host: str = "") -> Facts:
    """Everything about a name. Raises ConfigError; what cannot be asked is part of the answer. `host` is this machine's
    name, by which programs on its loopback are known.
    """
    here = host or socket.gethostname()
    async with Etcd(settings.etcd_config()) as etcd:
        fleet = Fleet(settings, fleet_prefix, etcd)
        await fleet.read()
        statuses = await _statuses(fleet.programs, here)
        names = collect(fleet.listed.items, settings.prefix, fleet.programs, _documents(statuses))
        subject = resolve(name, names)
        answers = await _answers(fleet.programs, statuses, subject, here)
        facts = Facts(
            subject,
            settings.prefix,
            etcd.endpoint,
            fleet.error,
            fleet.fleet_error,
            _records(fleet, subject, settings),
            answers,
        )
        if differ(facts.records, facts.answers, subject):
            facts = await _again(facts, fleet, settings, here)
        facts = _with_answers(facts)
        if not any(each.findings for each in facts.answers if each.program.kind is Kind.REGISTRAR):
            facts = await _with_local(facts, settings, docker, fleet)
        left = await fleet.left({record.item.lease for record in facts.records if record.item.lease})
        records = tuple(
            replace(each, left=left.get(each.item.lease, -1) if each.item.lease else None) for each in facts.records
        )
        return replace(facts, records=await _dialled(records))


async def _again(facts: Facts, fleet: Fleet, settings: Common, here: str) -> Facts:
    """Views that differ, looked at once more."""
    await asyncio.sleep(SETTLE)
    await fleet.read()
    statuses = await _statuses(fleet.programs, here)
    answers = await _answers(fleet.programs, statuses, facts.subject, here)
    return replace(facts, etcd_error=fleet.error, records=_records(fleet, facts.subject, settings), answers=answers)


def _with_answers(facts: Facts) -> Facts:
    """With what a registrar says of a name that etcd does not know: a container that it does not register."""
    if facts.subject.kinds or not any(answer.findings for answer in facts.answers):
        return facts
    return replace(facts, subject=facts.subject.also("service that nobody registers"))


async def _with_local(facts: Facts, settings: Common, docker: str, fleet: Fleet) -> Facts:
    """With what the Docker daemon here tells of the name."""
    local, kind = await look(docker, facts.subject, settings.etcd_config().endpoints)
    if kind is None:
        near = resolve(
            facts.subject.name,
            collect((), "/", (), [{"not_registered": [{"container": each} for each in local.names]}]),
        )
        subject = (
            facts.subject if facts.subject.kinds else replace(facts.subject, near=(*facts.subject.near, *near.near))
        )
        return replace(facts, local=local, subject=subject)
    subject = facts.subject.also(kind, ((one.service, one.id) for one in local.instances))
    identities = {one.container for one in local.instances}
    mine = _records(fleet, subject, settings, identities)
    return replace(facts, local=local, subject=subject, records=mine)


def _records(
    fleet: Fleet, subject: Subject, settings: Common, containers: Iterable[str | None] = ()
) -> tuple[Record, ...]:
    """Those that are meant, in the order of keys."""
    found = []
    wanted = set(containers) - {None}
    for item in sorted(fleet.listed.items, key=lambda item: item.key):
        try:
            key: Key = split_key(item.key, settings.prefix)
        except RecordError:
            continue
        read = _read(item, settings.reader)
        own = isinstance(read, Instance) and read.container in wanted
        if key in subject.keys or own:
            marker = fleet.drains.hitting(read) if isinstance(read, Instance) else None
            found.append(Record(item, read, *key, marker=marker))
    return tuple(found)


def _read(item: Any, reader: Reader) -> Instance | RecordError:
    try:
        return reader.read(item)
    except RecordError as error:
        return error


# Programs


async def _statuses(announced: Sequence[Announcement], here: str) -> dict[str, Any]:
    """Each program's status document or a Failure, by its id; those without a way to them are left out."""
    urls = {program.id: url for program in announced if (url := program.admin_from(here))}
    return await ask({identity: f"{url}/status.json" for identity, url in urls.items()}, ANSWER)


def _documents(statuses: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in statuses.values() if isinstance(each, Mapping)]


async def _answers(
    announced: Sequence[Announcement], statuses: Mapping[str, Any], subject: Subject, here: str
) -> tuple[Answer, ...]:
    """What each program knows of the name, or why it could not be asked."""
    reached = [program for program in announced if isinstance(statuses.get(program.id), Mapping)]
    questions = {
        (program.id, name): f"{program.admin_from(here)}/explain.json?of={quote(name, safe='')}"
        for program in reached
        for name in _questions(program, subject)
    }
    keyed = {f"{identity} {name}": url for (identity, name), url in questions.items()}
    replies = dict(zip(questions, (await ask(keyed, ANSWER)).values(), strict=True))
    return tuple(_answer(program, statuses.get(program.id), replies) for program in announced)


def _questions(program: Announcement, subject: Subject) -> tuple[str, ...]:
    """What to ask for: registrars know the name whatever it is, proxies know services and instances."""
    if program.kind is Kind.REGISTRAR or "service" in subject.kinds or not subject.kinds:
        return (subject.name,)
    return tuple("/".join(key) for key in sorted(subject.keys)[:MOST]) or (subject.name,)


def _answer(program: Announcement, status: Any, replies: Mapping[tuple[str, str], Any]) -> Answer:
    if not isinstance(status, Mapping):
        return Answer(program, why_not=_why_not(program, status))
    findings: list[Finding] = []
    for (identity, _), reply in replies.items():
        if identity == program.id:
            if isinstance(reply, Failure):
                return Answer(program, reply.why, status)
            findings += _findings(reply)
    return Answer(program, status=status, findings=tuple(dict.fromkeys(findings))[:FINDINGS])


def _why_not(program: Announcement, status: Any) -> str:
    if program.admin is None:
        return "it has no admin server: start it with --admin"
    if status is None:
        return f"its admin server is on its own loopback, {program.admin}: ask on that host, or see --announce"
    return status.why if isinstance(status, Failure) else "its status is none"


def _findings(reply: Any) -> list[Finding]:
    found = []
    for each in reply[:FINDINGS] if isinstance(reply, list) else ():
        with contextlib.suppress(ValueError):
            found.append(Finding.of(each))
    return found


# Dials


async def _dialled(records: tuple[Record, ...]) -> tuple[Record, ...]:
    """Each of the first MOST that speaks TCP, with what a dial from here came to."""
    addresses = {
        record.found.address
        for record in records[:MOST]
        if isinstance(record.found, Instance) and record.found.protocol is Transport.TCP
    }
    results = dict(zip(addresses, await asyncio.gather(*map(dial, addresses)), strict=True))
    return tuple(
        replace(record, dial=results.get(record.found.address)) if isinstance(record.found, Instance) else record
        for record in records
    )


async def dial(address: Address) -> Result:
    """One check of an address, as proxies make them."""
    loop = asyncio.get_running_loop()
    found = knock(address, DIAL, loop.time())
    if isinstance(found, Result):
        return found
    try:
        while (result := found.look(loop.time())) is None:  # noqa: ASYNC110 - it says itself when to look again
            await asyncio.sleep(max(0.0, found.next_look - loop.time()))
        return result
    finally:
        found.close()
