"""From what was found out to findings, by who says so and in the order in which one thing depends on another. PURE.

First whoever knows containers, then etcd's records, then a dial from here, then the proxies: so the first red line is
the cause, and what follows may only be its consequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ambcore.findings import Finding, Level, worst
from ambcore.fleet import Drain, Kind
from ambcore.health import Result, Verdict
from ambcore.model import Instance, Protocol
from ambctl.explain.facts import Answer, Facts, Local, Record
from ambctl.explain.views import instances_of, reached, services_of, stale

REASONS, HOSTS = 6, 6  # why programs could not be asked, and how many of one reason are named
MOST = 40  # records that are told of one by one; of more, those that are not well


@dataclass(frozen=True, slots=True)
class Section:
    """What one source says, in its order."""

    by: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it. `asked` is False if etcd or everybody else who could tell did not answer."""

    name: str
    kinds: tuple[str, ...]
    near: tuple[str, ...]
    sections: tuple[Section, ...]
    asked: bool

    @property
    def steps(self) -> tuple[tuple[str, Finding], ...]:
        """Every finding with who says so, in order; the first has number 1."""
        return tuple((section.by, finding) for section in self.sections for finding in section.findings)

    @property
    def cause(self) -> int | None:
        """The number of the first red step."""
        return next((n for n, (_, step) in enumerate(self.steps, 1) if step.level is Level.RED), None)

    @property
    def level(self) -> Level:
        """Red before amber before unknown before green."""
        return worst(step for _, step in self.steps)


def judge(facts: Facts) -> Explanation:
    """What it all comes to."""
    sections = [section for section in (*_registrars(facts), *_docker(facts)) if section.findings]
    known = any(answer.findings for answer in facts.answers) or (facts.local is not None and facts.local.findings)
    if facts.subject.kinds or facts.records or known:
        sections += [*_etcd(facts), *_dials(facts), *_proxies(facts)]
    else:
        sections += [*_etcd(facts, known=False)]
    told = tuple(section for section in sections if section.findings)
    return Explanation(facts.subject.name, facts.subject.kinds, facts.subject.near, told, not facts.etcd_error)


# Who knows containers


def _registrars(facts: Facts) -> Iterator[Section]:
    registrars = [each for each in facts.answers if each.program.kind is Kind.REGISTRAR]
    for answer in registrars:
        yield Section(_called(answer), answer.findings)
    yield Section("registrars", tuple(_not_asked(registrars, "registrar")))


def _docker(facts: Facts) -> Iterator[Section]:
    """What Docker here says, where no registrar said anything."""
    local = facts.local
    if local is None:
        return
    if local.why_not:
        if not facts.records:
            text = f"the Docker daemon here could not be asked either: {local.why_not}"
            do = "say where it is by --docker, or run ambctl where the container is"
            yield Section("docker here", (Finding(Level.UNKNOWN, "docker", text, do),))
        return
    yield Section("docker here", (*local.findings, *_unregistered(local, facts)))


def _unregistered(local: Local, facts: Facts) -> Iterator[Finding]:
    """What could be registered and is not, although nothing is wrong with it."""
    if facts.etcd_error:
        return
    there = {record.found.container for record in facts.records if isinstance(record.found, Instance)}
    names = {record.name for record in facts.records}
    missing = [one for one in local.instances if one.container not in there and f"{one.service}/{one.id}" not in names]
    for one in missing:
        text = f"nobody registers {one.service} at {one.address}: no registrar that could be asked knows this container"
        do = "start registrar on this host; systemctl status registrar, or docker ps, shows whether one runs"
        yield Finding(Level.RED, "registrar", text, do)


def _not_asked(answers: Iterable[Answer], kind: str) -> Iterator[Finding]:
    """Those who could not be asked, in one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for answer in answers:
        if answer.why_not:
            reasons.setdefault(answer.why_not, []).append(answer.program.host)
    for why, hosts in list(reasons.items())[:REASONS]:
        more = f" and {len(hosts) - HOSTS} more" if len(hosts) > HOSTS else ""
        text = f"{kind} on {', '.join(hosts[:HOSTS])}{more} could not be asked: {why}"
        yield Finding(Level.UNKNOWN, kind, text, "what it decided is not told here")
    if len(reasons) > REASONS:
        text = f"{len(reasons) - REASONS} others could not be asked either, each for a reason of its own"
        yield Finding(Level.UNKNOWN, kind, text, "ambctl doctor lists every program")


def _called(answer: Answer) -> str:
    return f"{answer.program.kind.value} on {answer.program.host}"


# What etcd holds


def _etcd(facts: Facts, *, known: bool = True) -> Iterator[Section]:
    findings: list[Finding] = []
    if facts.etcd_error:
        text = f"etcd could not be asked: {facts.etcd_error}"
        findings.append(Finding(Level.UNKNOWN, "etcd", text, "ambctl doctor looks into it; --etcd says where it is"))
    else:
        told = [_record(record, facts) for record in facts.records]
        findings += told if len(told) <= MOST else [each for each in told if each.level is not Level.GREEN][:MOST]
        if len(told) > MOST:
            findings.insert(0, Finding(Level.GREEN, "records", f"{len(told)} records; those that are not well follow"))
        if not told and known:
            findings.append(_no_record(facts))
    if facts.fleet_error:
        text = f"etcd did not tell which programs there are: {facts.fleet_error}"
        findings.append(Finding(Level.UNKNOWN, "fleet", text, "grant your user the right to read /ambassadors/"))
    yield Section(f"etcd at {facts.endpoint}", tuple(findings))


def _no_record(facts: Facts) -> Finding:
    name, services = facts.subject.name, sorted(facts.subject.services)
    where = " or ".join(f"{facts.prefix}{service}/" for service in services[:3]) or facts.prefix
    do = "what stands above says why; if nothing does: is registrar started on its host, and does it register this?"
    return Finding(Level.RED, "record", f"there is no record of {name} under {where}", do)


def _record(record: Record, facts: Facts) -> Finding:
    found = record.found
    if not isinstance(found, Instance):
        level, do = Level.RED, "correct it, or take it away: ambctl rm " + record.name.replace("/", " ", 1)
        if found.reason == "address_denied":
            do = "tell the proxies by --instances-in that instances may live there, or register another address"
            level = Level.AMBER if reached_at_all(facts, record) else level
        return Finding(level, "record", f"{record.name} is refused by whoever reads it: {found}", do)
    text = f"{record.name} is at {found.address}{', UDP' if found.protocol is Protocol.UDP else ''}"
    text += f", kept by {found.owner}" if found.owner else ", kept by nobody who says so"
    if not record.item.lease:
        return _without_lease(record, found, facts)
    lease = f"lease {record.item.lease:x}"
    if record.left is None:
        return Finding(Level.AMBER, "record", f"{text}; its {lease} has just ended", "see why its registrar went")
    text += f", under {lease}" + (f" with {record.left} s left" if record.left >= 0 else "")
    if record.marker is not None:
        return Finding(Level.AMBER, "record", f"{text}; {drained(record.marker)}", _undrain(record.marker))
    if not found.takes_new:
        return Finding(Level.AMBER, "record", f"{text}; it drains: its record says that it takes nobody new")
    return Finding(Level.GREEN, "record", f"{text}; revision {record.item.revision}")


def _without_lease(record: Record, found: Instance, facts: Facts) -> Finding:
    """Amber while it answers; else it is why a dead instance is still offered."""
    remove = f"ambctl rm {record.service} {record.id}"
    if record.dial is not None and _failed(record.dial) and not reached(facts.answers, record):
        text = f"{record.name} has no lease, so nobody took it away when {found.address} went ({record.dial.why})"
        return Finding(Level.RED, "record", text, f"{remove}, and let a registrar keep such records")
    text = f"{record.name} at {found.address} has no lease: nobody takes it away when the instance goes"
    return Finding(Level.AMBER, "record", text, f"let a registrar keep it, or ambctl put --ttl; {remove} removes it")


def reached_at_all(facts: Facts, record: Record) -> bool:
    """Whether some proxy accepts the record although a proxy with default options would not."""
    return any(
        record.id in ids for answer in facts.answers for service, ids in _seen(answer) if service == record.service
    )


def _seen(answer: Answer) -> Iterator[tuple[str, set[str]]]:
    for service in services_of(answer.status):
        yield service["name"], set(instances_of(service) or {})


def drained(marker: Drain) -> str:
    """Who drained it, since when and why, as far as it was said."""
    what = f"all of host {marker.host} is drained" if marker.host else "it is drained"
    by = f" by {marker.by}" if marker.by else " by an operator"
    since = f" since {marker.since}" if marker.since else ""
    return f"{what}{by}{since}{f': {marker.why}' if marker.why else ''}"


def _undrain(marker: Drain) -> str:
    back = f"--host {marker.host}" if marker.host else f"{marker.service} {marker.instance}"
    return f"ambctl undrain {back} takes that back"


# What a dial from here comes to


def _dials(facts: Facts) -> Iterator[Section]:
    dialled = [(record, record.dial) for record in facts.records if record.dial is not None]
    yield Section("a dial from here", tuple(_dial(record, result, facts) for record, result in dialled))


def _dial(record: Record, result: Result, facts: Facts) -> Finding:
    where = f"{record.name} at {record.found.address}" if isinstance(record.found, Instance) else record.name
    if result.verdict is Verdict.PASSED:
        return Finding(Level.GREEN, "dial", f"{where} answers in {result.took * 1000:.1f} ms")
    if result.verdict is Verdict.LOCAL:
        return Finding(Level.UNKNOWN, "dial", f"{where} could not be dialled: {result.why}", "it is this machine")
    text, do = _FAILURES[result.verdict]
    text = f"{where} {text}{f' ({result.error})' if result.error else ''}"
    if reached(facts.answers, record):
        return Finding(Level.AMBER, "dial", f"{text}, but a proxy's checks reach it", "this machine is not in its way")
    return Finding(Level.RED, "dial", text, do)


_FAILURES = {
    Verdict.REFUSED: (
        "refuses connections: the machine answers, and nobody listens on that port",
        "see whether the program runs and on which port it listens: ss -ltn on that host, docker port CONTAINER",
    ),
    Verdict.SILENT: (
        "does not answer at all: no refusal, no connection",
        "see whether the host is up and its address right, and whether a firewall drops what comes from elsewhere",
    ),
    Verdict.CLOSED: (
        "takes a connection and ends it at once: Docker listens there, and nobody does in the container",
        "see whether the program in the container listens on that port, and on all of its addresses",
    ),
}


def _failed(result: Result) -> bool:
    return result.verdict in _FAILURES


# What the proxies see


def _proxies(facts: Facts) -> Iterator[Section]:
    proxies = [each for each in facts.answers if each.program.kind is Kind.DYNPROXY]
    asked = [each for each in proxies if not each.why_not]
    for answer in asked:
        yield Section(_called(answer), (*stale(answer, facts.records, facts.subject), *answer.findings))
    concerned = [
        each
        for each in proxies
        if each.why_not and (each.program.more or {*each.program.services} & facts.subject.services)
    ]
    for answer in concerned:
        yield Section(_called(answer), tuple(_announced(answer, facts)))
    yield Section("proxies", tuple(_not_asked(concerned, "dynproxy")))
    if (
        facts.subject.services
        and not facts.etcd_error
        and not facts.fleet_error
        and not concerned
        and not any(each.findings for each in asked)
    ):
        text = f"no proxy that is announced balances over {', '.join(sorted(facts.subject.services)) or 'it'}"
        do = "dynproxy SERVICE PORT starts one; one that is cut off from etcd is named by --ask"
        yield Section("proxies", (Finding(Level.AMBER, "proxy", text, do),))


def _announced(answer: Answer, facts: Facts) -> Iterator[Finding]:
    """What a proxy that could not be asked says in its announcement of the instances that are meant."""
    for one in answer.program.unreachable:
        if (one.service, one.instance) in facts.subject.keys:
            text = f"{one.service}/{one.instance} has not answered its checks since {one.since}: {one.why}"
            do = "see whether it listens, and whether a firewall stands between"
            yield Finding(Level.RED, "instance", f"{text}; it announces that", do)
