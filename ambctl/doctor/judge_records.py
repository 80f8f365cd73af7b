"""PURE: the records in etcd -> which are read by nobody, and which nobody takes away."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ambcore.drains import Drains
from ambcore.findings import Finding
from ambcore.history import KeyValue
from ambcore.model import Instance
from ambcore.text import visible
from ambctl.doctor.levels import amber, green, plural, red, some

MOST = 10  # lines about records of one kind; one more says how many there are beyond

Place = tuple[str, str, str]  # service, id and address of an instance


@dataclass(frozen=True, slots=True)
class Record:
    """A record as its readers see it: `found` is None for one that they refuse, for `refused`.

    `answers` is whether somebody answers there, None where nobody tried; `why` what came of it.
    """

    item: KeyValue
    found: Instance | None
    refused: str = ""
    answers: bool | None = None
    why: str = ""

    @property
    def key(self) -> str:
        """Printable, whatever its bytes."""
        return visible(self.item.key.decode(errors="backslashreplace"))


def judge_records(
    records: Sequence[Record], owners: frozenset[str] | None, reached: Collection[Place] = ()
) -> Iterator[Finding]:
    """All of them; `owners` are those whose registrars are announced, None where that is not known. What some proxy's
    checks have `reached` is not dead: it is this machine that is not let through to it.
    """
    readable = [record for record in records if record.found]
    refused = [record for record in records if not record.found]
    unleased = [record for record in readable if not record.item.lease]
    dead = [record for record in unleased if record.answers is False and _place(record) not in reached]
    taken = [record for record in unleased if record not in dead and record.found and record.found.owner]
    by_hand = [record for record in unleased if record not in dead and record not in taken]
    yield from _few([_dead(record) for record in dead], "records without a lease, where nobody answers")
    yield from _few([_taken(record) for record in taken], "records off their lease")
    yield from _few([_by_hand(record) for record in by_hand], "records without a lease")
    yield from _few([_refused(record) for record in refused], "refused records")
    yield from _strangers(readable, owners)
    if not (refused or unleased):
        yield green("records", f"{plural(len(records), 'record')}, each kept by a lease")


def _place(record: Record) -> Place | None:
    return (record.found.service, record.found.id, str(record.found.address)) if record.found else None


def _few(findings: list[Finding], what: str) -> Iterator[Finding]:
    yield from findings[:MOST]
    if more := findings[MOST:]:
        yield Finding(more[0].level, "records", f"and {len(more)} more {what}", "ambctl ls shows them all")


def _dead(record: Record) -> Finding:
    says = f"has no lease, so it stays for ever, and nobody answers at {record.found and record.found.address}"
    return red(f"record {record.key}", f"{says}: {record.why}", f"ambctl rm {_typed(record)}")


def _taken(record: Record) -> Finding:
    says = f"has no lease, though the registrar of {record.found and record.found.owner} wrote it: nobody takes it away"
    return red(f"record {record.key}", says, f"ambctl rm {_typed(record)}; a living registrar writes it again")


def _by_hand(record: Record) -> Finding:
    says = "has no lease: nobody takes it away when its instance goes"
    return amber(f"record {record.key}", says, f"ambctl rm {_typed(record)} when it is not wanted any more")


def _refused(record: Record) -> Finding:
    says = f"every proxy refuses it: {record.refused}"
    return amber(f"record {record.key}", says, "correct it, or remove it: ambctl rm")


def _typed(record: Record) -> str:
    return f"{record.found.service} {record.found.id}" if record.found else record.key


def _strangers(readable: Sequence[Record], owners: frozenset[str] | None) -> Iterator[Finding]:
    """Records under a lease of somebody whose registrar is not announced."""
    if owners is None:
        return
    kept: dict[str, int] = {}
    for record in readable:
        if record.found and record.found.owner and record.item.lease and record.found.owner not in owners:
            kept[record.found.owner] = kept.get(record.found.owner, 0) + 1
    for owner, number in sorted(kept.items())[:MOST]:
        says = f"{plural(number, 'record')} of {owner}, whose registrar has not announced itself: it cannot be asked"
        yield amber("records", says, "start it with --announce yes, and let its etcd user write there")


def judge_drains(drains: Drains, instances: Sequence[Instance]) -> Iterator[Finding]:
    """Operators' markers, beside what they are meant for."""
    hit = {marker for item in instances if (marker := drains.hitting(item))}
    for marker in drains:
        if marker not in hit:
            do = f"ambctl undrain {f'--host {marker.host}' if marker.host else f'{marker.service} {marker.instance}'}"
            yield amber(f"drain of {marker}", "hits nothing: there is no such instance or host now", do)
    for key, why in sorted(drains.refused.items()):
        text = visible(key.decode(errors="backslashreplace"))
        yield amber(f"drain {text}", f"is no marker: {why}", f"etcdctl del {text}")
    if hit:
        says = f"{plural(len(hit), 'marker')} in force: {some(sorted(map(str, hit)))}"
        yield amber("drains", says, "ambctl undrain, when it is not wanted any more")
    if not drains.markers and not drains.refused:
        yield green("drains", "nothing is drained")


def by_service(instances: Sequence[Instance]) -> Mapping[str, Mapping[str, str]]:
    """service -> instance -> address."""
    known: dict[str, dict[str, str]] = {}
    for item in instances:
        known.setdefault(item.service, {})[item.id] = str(item.address)
    return known
