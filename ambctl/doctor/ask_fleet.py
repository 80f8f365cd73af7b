"""Ask every program that announced itself, and knock where records without a lease lead."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ambcore.errors import RecordError
from ambcore.fleet import Announcement, Kind
from ambcore.health import Result, Verdict
from ambcore.history import KeyValue
from ambcore.model import Address, Protocol, join_host_port
from ambcore.table import Reader
from ambcore.version import VERSION
from ambctl.doctor.judge_programs import Asked, float_of, mapping
from ambctl.doctor.judge_records import Record
from ambctl.explain.dial import dialled
from ambnet.announce import host_name
from ambnet.asking import Failure, ask

STATUS = "/status.json"
ANSWER = 4.0  # seconds for a status document
MOST_DIALS = 200  # that one look may begin; records without a lease are few


async def documents(programs: Sequence[Announcement]) -> tuple[Asked, ...]:
    """Each with its status document, as far as it can be had from here. Never raises."""
    here = host_name()
    urls = {each.id: f"{url}{STATUS}" for each in programs if (url := each.admin_from(here))}
    answers = await ask(urls, ANSWER)
    return tuple(_asked(each, answers.get(each.id)) for each in programs)


async def named(places: Sequence[tuple[str, int]]) -> tuple[Asked, ...]:
    """Those that the operator named by where their admin servers are. Never raises."""
    urls = {join_host_port(*place): f"http://{join_host_port(*place)}" for place in places}
    answers = await ask({place: f"{url}{STATUS}" for place, url in urls.items()}, ANSWER)
    return tuple(
        replace(_asked(_introduced(place, url, answers[place]), answers[place]), named=True)
        for place, url in urls.items()
    )


def _introduced(place: str, url: str, answer: object) -> Announcement:
    """What it might have announced, by its own account."""
    document = mapping(answer)
    kind = Kind.REGISTRAR if document.get("program") == Kind.REGISTRAR else Kind.DYNPROXY
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0.0, time.time() - float_of(document.get("uptime")))))
    services = document.get("services")
    number = len(services) if isinstance(services, list) else 0
    return Announcement(kind, place, host_name(), VERSION, url, (), since, number)


def _asked(program: Announcement, answer: object) -> Asked:
    if isinstance(answer, Mapping):
        return Asked(program, answer)
    if isinstance(answer, Failure):
        return Asked(program, None, answer.why)
    return Asked(program, None, "" if answer is None else "it answered with something else than a status")


async def read(items: Sequence[KeyValue], reader: Reader) -> tuple[Record, ...]:
    """Records as proxies read them; those without a lease are knocked at. Never raises."""
    records = [_record(item, reader) for item in items]
    asked = [found.address for record in records if (found := record.found) and _doubtful(record)]
    results = await dialled(asked[:MOST_DIALS])
    return tuple(_dialled(record, results) if _doubtful(record) else record for record in records)


def _dialled(record: Record, results: Mapping[Address, Result]) -> Record:
    """With what came of knocking; a fault of this machine says nothing of that one."""
    result = results.get(record.found.address) if record.found else None
    if result is None or result.verdict is Verdict.LOCAL:
        return record
    why = " ".join(filter(None, (result.verdict.value, result.error)))
    return Record(record.item, record.found, answers=result.verdict is Verdict.PASSED, why=why)


def _record(item: KeyValue, reader: Reader) -> Record:
    try:
        return Record(item, reader.read(item))
    except RecordError as error:
        return Record(item, None, str(error))


def _doubtful(record: Record) -> bool:
    return record.found is not None and not record.item.lease and record.found.protocol is Protocol.TCP
