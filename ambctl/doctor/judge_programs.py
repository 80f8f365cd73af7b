"""PURE: the programs that announced themselves -> can they be asked, and do they do what they are for?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambcore.findings import Finding
from ambcore.fleet import Announcement, Kind
from ambctl.doctor.levels import amber, green, plural, red, some, unknown

Document = Mapping[str, Any]

NOTHING: Mapping[str, str] = {}
MOST = 5  # lines about announcements that cannot be read
BEYOND = 1e18  # no number of ours comes near
MAX_TEXT = 300  # characters of another process's words

# Reasons for which a container has no record that nobody wants on purpose.
LOOK_TWICE = frozenset({"unhealthy", "port-pending", "unreachable-address", "unnameable", "duplicate"})

HELD = "held"  # what a registrar says of its lease while that lives
WHY_NONE = "start dynproxy and registrar with --announce yes, and let their etcd user write there"


@dataclass(frozen=True, slots=True)
class Asked:
    """A program with its status document: None where it could not be asked, for `why`. `named` is whether the operator
    said where it is, instead of etcd.
    """

    program: Announcement
    document: Document | None
    why: str = ""
    named: bool = False

    @property
    def name(self) -> str:
        """As it stands in findings."""
        return f"{self.program.kind.value} {self.program.id}"


def judge_programs(asked: Sequence[Asked], version: str, unreadable: Mapping[str, str] = NOTHING) -> Iterator[Finding]:
    """Everybody; `version` is our own, `unreadable` says of announcements' keys why they cannot be read."""
    for key, why in sorted(unreadable.items())[:MOST]:
        yield amber(f"announcement {key}", why, f"see who writes there; etcdctl del {key}")
    if not asked:
        yield amber("programs", "none has announced itself: what they see cannot be told", WHY_NONE)
        return
    for each in asked:
        yield from _judge(each)
    versions = {each.program.version for each in asked} | {version}
    if len(versions) > 1:
        kinds = [f"{each.name} {each.program.version}" for each in asked if each.program.version != version]
        yield amber("versions", f"this is {version}, but: {some(kinds)}", "finish the upgrade")


def _judge(each: Asked) -> Iterator[Finding]:
    program, document = each.program, each.document
    if program.admin is None:
        says = "has no admin server: nobody can look into it"
        yield amber(each.name, says, "start it with --admin ADDR:PORT")
        return
    if document is None and each.named:
        yield red(each.name, f"does not answer: {each.why}", "start it with --admin, or look whether it hangs")
        return
    if document is None:
        if each.why:
            do = f"look whether it hangs, and whether {program.admin} can be reached from here"
            yield amber(each.name, f"is alive in etcd, but does not answer: {each.why}", do)
        else:
            says = f"tells only its own machine about itself ({program.admin} of {program.host})"
            yield unknown(
                each.name, says, f"run the doctor on {program.host}, or start it with --admin :PORT on an address"
            )
        return
    faults = list(_unreached(each, document))
    yield from faults
    if not faults:
        ready = document.get("ready") is True
        days = float_of(document.get("uptime")) / 86400
        since = f"up for {days:.0f} days" if days >= 2 else f"up since {program.since}"
        if ready:
            yield green(each.name, f"{plural(len(program.services) + program.more, 'service')}, {since}")
        else:
            yield amber(each.name, "says that it is not ready", f"ask why: {program.admin}/readyz")
    if program.kind is Kind.REGISTRAR:
        yield from _unregistered(each.name, document)


def _unregistered(name: str, document: Document) -> Iterator[Finding]:
    """Containers that somebody may miss. Of a whole host most are left out on purpose."""
    one = mapping(document.get("container"))
    if why := one.get("why"):
        container = text_of(one.get("name"), "its container")
        yield amber(name, f"{container} is not registered: {text_of(why)}", f"ambctl explain {container}")
    hidden = [each for each in items(document.get("not_registered")) if text_of(each.get("state")) in LOOK_TWICE]
    if hidden:
        names = [text_of(each.get("container"), "unnamed") for each in hidden]
        says = f"{some(sorted(set(names)))}: not registered: {text_of(hidden[0].get('why'))}"
        yield amber(name, says, f"ambctl explain {names[0]}")


def _unreached(each: Asked, document: Document) -> Iterator[Finding]:
    """What a registrar cannot reach; a proxy's etcd is judged with what it sees of it."""
    docker, etcd = mapping(document.get("docker")), mapping(document.get("etcd"))
    if docker.get("connected") is False:
        do = "start the daemon there, and see that its socket is mounted"
        yield red(each.name, f"does not reach its Docker daemon ({text_of(docker.get('url'), 'unnamed')})", do)
    if each.program.kind is Kind.REGISTRAR and etcd.get("connected") is False:
        says = f"does not reach etcd: {text_of(etcd.get('last_error'))}"
        yield red(each.name, says, "look at the way from there to etcd; its records end with their lease")
    elif each.program.kind is Kind.REGISTRAR and (state := mapping(document.get("lease")).get("state", HELD)) != HELD:
        says = f"its lease is {text_of(state, 'unknown')}: its records may end"
        yield amber(each.name, says, "ask again; if it stays so, look at etcd's leader and disks")


def mapping(value: object) -> Document:
    """What should be a JSON object, of another process; empty if it is something else."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Document]:
    """What should be a list of JSON objects; what is none is left out."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def float_of(value: object) -> float:
    """What should be a number; 0 if it is none, or none that can be counted with."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -BEYOND < value < BEYOND:
        return 0.0
    return float(value)


def text_of(value: object, otherwise: str = "no reason given") -> str:
    """What should be a text, cut where nobody reads on."""
    return value[:MAX_TEXT] if isinstance(value, str) and value else otherwise
