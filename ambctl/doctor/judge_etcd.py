"""PURE: what was seen of etcd's members -> how it stands with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ambcore.findings import Finding
from ambcore.members import Alarm, ListedMember, MemberStatus
from ambctl.doctor.advisories import cure, known_for, parse_version
from ambctl.doctor.levels import amber, green, plural, red, some, unknown

SLOW = 0.25  # seconds for an answer that costs etcd nothing; half of a usual lease's margin is eaten at about 3
LAG = 1000  # entries of the log; a busy cluster's followers are some tens behind
FULL = 0.8  # of the quota
CLOCK = 5.0  # seconds; certificates and logs suffer, leases do not: etcd counts them by elapsed time

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """One endpoint: its own account or why there is none, the seconds that an answer took, how far its clock is ahead
    of ours in seconds and its quota in bytes, where those could be told. `local` is whether the way there stays on this
    machine.
    """

    url: str
    status: MemberStatus | None = None
    error: str = ""
    latency: float = 0.0
    clock: float | None = None
    quota: int | None = None
    local: bool = False


def judge_endpoints(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Each endpoint that we were given: does it answer?"""
    alive = any(each.status for each in seen)
    for each in seen:
        if each.status:
            took = f"answers in {each.latency * 1000:.1f} ms"
            if each.latency > SLOW:
                yield amber(
                    f"etcd {each.url}", f"{took}, which is slow", "look at its disk, its load and the way there"
                )
            else:
                yield green(f"etcd {each.url}", f"{took}, version {each.status.version}")
        elif alive:
            yield amber(
                f"etcd {each.url}", f"{each.error}; others serve", "start that member, or take it out of --etcd"
            )
        else:
            yield red(f"etcd {each.url}", each.error, "start etcd, or say by --etcd (AMB_ETCD) where it is")


def judge_cluster(seen: Sequence[Seen], members: Sequence[ListedMember] | None) -> Iterator[Finding]:
    """What the members say of one another."""
    up = [(each, each.status) for each in seen if each.status]
    if not up:
        return
    if len({status.cluster for _, status in up}) > 1:
        yield red("etcd cluster", "the endpoints belong to different clusters", "name the members of one in --etcd")
        return
    leaders = {status.leader for _, status in up}
    if 0 in leaders:
        lost = [each.url for each, status in up if not status.leader]
        do = "start the missing members: more than half of all have to run and reach one another"
        yield red("etcd leader", f"{some(lost)} knows no leader: nothing can be read or written", do)
    elif len(leaders) > 1:
        yield amber("etcd leader", "members name different leaders", "ask again; if it stays so, they are cut apart")
    else:
        yield _leader(leaders.pop(), [status for _, status in up], members)
    for each, status in up:
        if status.learner:
            do = "promote it (etcdctl member promote), or take it out of --etcd"
            yield amber("etcd member", f"{each.url} is a learner, which answers no client", do)
    yield from _lag(up)


def _leader(leader: int, up: Sequence[MemberStatus], members: Sequence[ListedMember] | None) -> Finding:
    by_id = {member.id: member for member in members or ()}
    name = by_id[leader].name if leader in by_id else f"{leader:x}"
    if members is None:
        return green("etcd leader", f"{name}; all agree")
    voters = [member for member in members if not member.learner]
    never = [f"{member.id:x}" for member in members if not member.name]
    if never:
        do = "start it, or remove it (etcdctl member remove): until then it counts as one that is down"
        return amber("etcd members", f"{some(never)} was added and has never started", do)
    if len(voters) % 2 == 0:
        says = f"{len(voters)} members vote: that bears no more failures than {len(voters) - 1} do"
        return amber("etcd members", says, "have 1, 3 or 5")
    bears = (len(voters) - 1) // 2
    says = f"{plural(len(voters), 'member')}, leader {name}, all agree; bears the loss of {bears}"
    return green("etcd members", says)


def _lag(up: Sequence[tuple[Seen, MemberStatus]]) -> Iterator[Finding]:
    newest = max(status.index for _, status in up)
    for each, status in up:
        behind = newest - status.applied
        if behind > LAG:
            says = f"{each.url} is {behind} entries of the log behind"
            yield amber("etcd lag", says, "look at its disk and its network: what it serves is old")


def judge_space(seen: Sequence[Seen], alarms: Sequence[Alarm] | None, error: str = "") -> Iterator[Finding]:
    """Databases, quotas and etcd's own alarms; `alarms` is None when it would not tell, `error` is why."""
    names = {each.status.member: each.url for each in seen if each.status}
    for alarm in alarms or ():
        where = names.get(alarm.member, f"member {alarm.member:x}")
        if alarm.kind == "NOSPACE":
            do = (
                "compact and defragment it, then etcdctl alarm disarm; raise --quota-backend-bytes if it is really full"
            )
            yield red("etcd space", f"{where} is full (alarm NOSPACE): it takes no writes, records cannot change", do)
        else:
            do = "take that member out and add it anew: its data cannot be trusted"
            yield red("etcd data", f"{where} has raised the alarm {alarm.kind}", do)
    if alarms is None and names:
        yield unknown("etcd alarms", f"it does not tell: {error}")
    for each in seen:
        if each.status and each.status.errors and not alarms:
            yield amber("etcd member", f"{each.url} complains: {'; '.join(each.status.errors)}", "look at its log")
        if each.status and each.quota and not alarms and each.status.used > FULL * each.quota:
            says = f"{each.url} uses {each.status.used // MIB} of {each.quota // MIB} MiB"
            yield amber("etcd space", says, "compact and defragment it before it takes no writes any more")
    if names and not alarms:
        size = max(each.status.size for each in seen if each.status)
        yield green("etcd space", f"the largest database has {size / MIB:.1f} MiB, no alarm")


def judge_clocks(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Our clock beside theirs, as far as they tell it."""
    told = [(each.url, each.clock) for each in seen if each.clock is not None]
    for url, ahead in told:
        if abs(ahead) > CLOCK:
            where = "ahead of" if ahead > 0 else "behind"
            do = "set the clocks (chrony, systemd-timesyncd): certificates and logs go by them"
            yield amber("clock", f"{url} is {abs(ahead):.0f} s {where} this machine", do)
    if told and all(abs(ahead) <= CLOCK for _, ahead in told):
        yield green("clock", f"within {CLOCK:.0f} s of etcd's")


def judge_versions(seen: Sequence[Seen], guarded: bool | None) -> Iterator[Finding]:
    """Versions that are known for something, each named once. `guarded` is whether authentication is on, None for not
    known.
    """
    versions = {each.status.version for each in seen if each.status}
    for text in sorted(versions):
        version = parse_version(text)
        if version is None:
            yield unknown("etcd version", f"{text} is no version of etcd's own")
            continue
        do = f"upgrade to {'.'.join(map(str, cure(version)))} or later"
        advisories = known_for(version)
        if holes := [each for each in advisories if each.guards]:
            says = "; ".join(f"{each.name} ({each.harm})" for each in holes)
            if guarded is False:
                says += "; authentication is off here, so that whoever reaches etcd may do anything as it is"
            yield amber(f"etcd {text}", says, do)
        if faults := [each for each in advisories if not each.guards]:
            yield amber(f"etcd {text}", "; ".join(f"{each.harm} ({each.name})" for each in faults), do)
        if not advisories:
            yield green("etcd version", f"{text} is known for nothing bad")
    if len(versions) > 1:
        yield amber("etcd version", f"members run {some(sorted(versions))}", "finish the upgrade")
