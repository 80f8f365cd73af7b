"""PURE: what proxies say of themselves, beside what etcd has.

Two looks are never of the same moment. So whoever finds a difference looks again before believing it; here it is only
named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ambcore.findings import Finding, Level
from ambctl.doctor.judge_programs import Asked, Document, float_of, items, mapping, text_of
from ambctl.doctor.levels import amber, green, plural, red, some

STALE = 30.0  # seconds without a sign of life from etcd; a proxy asks for one every 10 s, twice
MOST = 10  # lines about services of one proxy
NEARLY = 0.8  # of the room for connections
HERE_ONLY = "nothing to forward"  # the probe's words for a proxy that serves its own machine alone

Known = Mapping[str, Mapping[str, str]]  # service -> instance -> address, as etcd has it


@dataclass(frozen=True, slots=True)
class View:
    """What a proxy has of one service, beside etcd: instances that it lacks, those that it should not have any more,
    and those it has at another address. `age` in seconds, None before it has seen anything.
    """

    service: str
    watch: str
    age: float | None
    revision: int
    lacks: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether it disagrees with etcd."""
        return bool(self.lacks or self.left or self.moved)


def views(document: Document, known: Known | None) -> Iterator[View]:
    """A proxy's services beside etcd's, or alone where that is not known; nothing for one that does not follow etcd."""
    if not isinstance(document.get("etcd"), Mapping):
        return
    for service in items(document.get("services")):
        name = text_of(service.get("name"), "")
        refused = {text_of(each.get("key"), "").rpartition("/")[2] for each in items(service.get("refused"))}
        here = {
            identity: text_of(item.get("address"), "")
            for item in items(service.get("instances"))
            if (identity := text_of(item.get("id"), "")) not in refused
        }
        etcds = here if known is None else known.get(name, {})
        there = {key: address for key, address in etcds.items() if key not in refused}
        age = service.get("view_age")
        yield View(
            name,
            text_of(service.get("watch"), "unknown"),
            None if age is None else float_of(age),
            int(float_of(service.get("revision"))),
            lacks=tuple(sorted(there.keys() - here.keys())),
            left=tuple(sorted(here.keys() - there.keys())),
            moved=tuple(sorted(key for key in here.keys() & there.keys() if here[key] != there[key])),
        )


def differs(document: Document, known: Known | None) -> bool:
    """Whether it is worth a second look."""
    return any(view.differs for view in views(document, known))


def reached(document: Document) -> Iterator[tuple[str, str, str]]:
    """Service, id and address of each instance that answers a proxy's checks."""
    for service in items(document.get("services")):
        for item in items(service.get("instances")):
            check = mapping(item.get("check"))
            if check.get("state") == "up" and check.get("seconds") is not None:
                yield text_of(service.get("name"), ""), text_of(item.get("id"), ""), text_of(item.get("address"), "")


def judge_proxy(asked: Asked, known: Known | None) -> Iterator[Finding]:
    """One dynproxy that answered; `known` is what etcd has, None where that could not be read."""
    document = asked.document or {}
    etcd = mapping(document.get("etcd"))
    seen = list(views(document, known))
    stale = [finding for view in seen if (finding := _view(asked.name, view, etcd))]
    yield from _few(stale)
    if seen and not stale and known is not None:
        yield green(asked.name, f"sees what etcd has of {plural(len(seen), 'service')}")
    drains = mapping(mapping(document.get("fleet")).get("drains"))
    if drains.get("denied"):
        says = f"may not read what operators drained: {text_of(drains.get('last_error'))}"
        yield amber(asked.name, says, "let its etcd user read --fleet-prefix")
    yield from _few(list(_served(asked.name, document)))
    yield from _plane(asked.name, mapping(document.get("plane")))
    yield from _room(asked.name, document)


def _view(name: str, view: View, etcd: Document) -> Finding | None:
    """What is wrong with a proxy's view of a service; None if nothing is."""
    wrong = [
        f"{words} {some(list(names))}"
        for words, names in (
            ("does not know", view.lacks),
            ("still serves", view.left),
            ("has another address for", view.moved),
        )
        if names
    ]
    says = f"view of {view.service} at revision {view.revision}"
    if view.age is None:
        do = "look at its log and at the way from there to etcd; its clients wait"
        return red(name, f"knows nothing of {view.service} yet: {text_of(etcd.get('last_error'))}", do)
    if view.watch != "watching" or view.age > STALE:
        difference = f"; it {', '.join(wrong)}" if wrong else ""
        do = "look at the way from there to etcd; until then it serves what it knew"
        says = f"stale {says}: {view.age:.0f} s without news from etcd ({text_of(etcd.get('last_error'))}){difference}"
        return red(name, says, do)
    if view.differs:
        do = "if a second look says the same, restart it: that costs no client a connection"
        return red(name, f"its {says} is not what etcd has: it {', '.join(wrong)}", do)
    return None


def _served(name: str, document: Document) -> Iterator[Finding]:
    """Services whose clients get no answer."""
    for service in items(document.get("services")):
        which = text_of(service.get("name"), "a service")
        states = [each.get("state") for each in items(service.get("instances"))]
        if not states or "up" in states:
            continue
        if "ejected" in states:
            number = plural(len(states), "instance")
            yield red(name, f"none of {number} of {which} answers it", f"ambctl explain {which}")
        else:
            says = f"every instance of {which} drains: new clients wait"
            yield amber(name, says, f"start another one, or ambctl undrain; ambctl explain {which}")


def _few(findings: list[Finding]) -> Iterator[Finding]:
    """The first MOST, the red ones first."""
    ordered = sorted(findings, key=lambda finding: finding.level is not Level.RED)
    yield from ordered[:MOST]
    if more := ordered[MOST:]:
        yield Finding(
            more[0].level, more[0].topic, f"and {len(more)} more services like these", "ambctl top shows all of them"
        )


def _plane(name: str, plane: Document) -> Iterator[Finding]:
    kernel, why = mapping(plane.get("kernel")), text_of(plane.get("why"))
    if error := kernel.get("error"):
        do = "see who else writes this machine's rules; the relay serves meanwhile"
        yield red(name, f"cannot write the kernel's rules: {text_of(error)}", do)
    elif plane.get("name") == "relay" and not plane.get("only_relay") and not why.startswith(HERE_ONLY):
        do = "mend that, or say --plane relay if it is meant to be so"
        if "CAP_NET_ADMIN" in why:
            do = (
                "give it the capability (docker run --cap-add NET_ADMIN; AmbientCapabilities=CAP_NET_ADMIN in a unit), "
                "or say --plane relay if it is meant to do without"
            )
        yield red(name, f"relays what the kernel should forward: {why}", do)
    else:
        yield green(name, f"{text_of(plane.get('name'), 'no')} plane: {text_of(plane.get('only_relay'), why)}")


def _room(name: str, document: Document) -> Iterator[Finding]:
    """Whether more clients find room."""
    room = mapping(mapping(document.get("plane")).get("room"))
    connections, most, why = float_of(room.get("connections")), float_of(room.get("most")), text_of(room.get("why"))
    do = "raise it: --ulimit nofile= for a container, LimitNOFILE= in a unit; or run a second one"
    do = do if "files" in why else "raise it, or run a second one"
    waited, lacked = _counted(document, "no_room"), _counted(document, "local_errors")
    if most and connections >= most:
        says = f"is full: {connections:.0f} connections, no more fit, as {why}; new clients wait"
        yield red(name, says, do)
    elif most and connections >= NEARLY * most:
        yield amber(name, f"has {connections:.0f} connections, {most:.0f} fit, as {why}", do)
    elif waited:
        yield amber(name, f"had no room for clients {waited:.0f} times since it began; {why}", do)
    if lacked:
        says = f"could not dial {lacked:.0f} times since it began, for lack of ports, files or memory there"
        yield amber(name, says, "its log says of which; run the doctor there")


def _counted(document: Document, counter: str) -> float:
    """A counter, over all services."""
    return sum(float_of(mapping(each.get("counters")).get(counter)) for each in items(document.get("services")))
