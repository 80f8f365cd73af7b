"""PURE: what registrar says when it is asked for a container, a service or an instance: each decision in its order.

Whoever asks for a container or an instance gets all of it; of a service with several containers, each that is well is
one line, and each that is not says only why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ambcore.findings import Finding, Level
from ambcore.model import Instance
from ambcore.registration.conventions import Conventions
from ambcore.registration.explain import explain_container, in_brief
from ambcore.registration.extract import SHORT_ID, Host, Reason, Refusal, name_of
from ambcore.registration.labels import mentions
from ambcore.states import Lease

MOST = 50  # containers that are told of one by one


@dataclass(frozen=True, slots=True)
class Keeping:
    """How the records are kept now. `lease` is its id in hexadecimal, `missing` is why there is none, `etcd` and
    `docker` are why those do not answer, `denied` is why etcd will not let us write; all are empty where there is
    nothing to say.
    """

    lease: str
    state: Lease
    missing: str = ""
    etcd: str = ""
    docker: str = ""
    denied: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance that should be registered: `record` is the id under which etcd confirmed it, None while it did not;
    `superseded`: another registrar of this host has taken it over.
    """

    wanted: Instance
    record: str | None
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """A container that registrar knows: what decides of its inspection, what should be registered of it, what was
    refused for reasons outside of it or since, and where nobody answers.
    """

    looked: Mapping[str, Any]
    kept: tuple[Kept, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    unanswered: tuple[Finding, ...] = ()


def explain_all(
    name: str, containers: Iterable[Known], conventions: Conventions, host: Host, keeping: Keeping
) -> tuple[Finding, ...]:
    """What is known of a name among all containers of the host; nothing where there is none of that name."""
    asked = name.partition("/")[0]
    known = [each for each in containers if _is_meant(each, name)]
    steps = [(each, [*_decisions(each, asked, conventions, host, keeping)]) for each in known[:MOST]]
    told = [step for _, each in steps for step in each]
    if len(known) > 1:
        told = [step for one, each in steps for step in in_brief(name_of(one.looked), each)]
    if len(known) > MOST:
        told.append(Finding(Level.UNKNOWN, "containers", f"{len(known) - MOST} more are not told of: ask for one"))
    return (*upkeep(keeping), *told) if told else ()


def called(identity: str, container: str, name: str) -> bool:
    """Whether a container is called this, by name or by enough of its id."""
    return name in (container, identity) or (len(name) >= SHORT_ID and identity.startswith(name))


def is_of(instance: Instance, record: str | None, name: str) -> bool:
    """Whether a name is that of an instance, with or without its service's, or of its service."""
    ids = {instance.id, record or instance.id}
    return name == instance.service or any(name in (each, f"{instance.service}/{each}") for each in ids)


def _is_meant(known: Known, name: str) -> bool:
    return (
        called(str(known.looked.get("Id", "")), name_of(known.looked), name)
        or any(is_of(kept.wanted, kept.record, name) for kept in known.kept)
        or mentions(known.looked, name)
    )


def _decisions(known: Known, asked: str, conventions: Conventions, host: Host, keeping: Keeping) -> Iterator[Finding]:
    own = called(str(known.looked.get("Id", "")), name_of(known.looked), asked)
    yield from explain_container(known.looked, conventions, host, asked="" if own else asked)
    yield from (since(each) for each in known.refusals if each.reason is not Reason.UNANSWERED or not known.unanswered)
    yield from (record(kept, keeping) for kept in known.kept)
    yield from known.unanswered


def since(refusal: Refusal) -> Finding:
    """What was refused after the inspection, or for what others are."""
    do = "" if ": " in refusal.text else "look again in a few seconds"
    topic = "answer" if refusal.reason is Reason.UNANSWERED else "container"
    return Finding(Level.RED, topic, refusal.text, do)


def record(kept: Kept, keeping: Keeping) -> Finding:
    """What became of an instance's record; it stands as long as its lease."""
    one = kept.wanted
    name = f"{one.service}/{kept.record or one.id}"
    if kept.superseded:
        text = f"{name} was taken over by another registrar of this host, and is left alone"
        return Finding(Level.AMBER, "record", text, "stop one of the two")
    if kept.record is None or keeping.missing:
        why = keeping.denied or keeping.etcd or keeping.missing
        fate = "is not written yet" if kept.record is None else "stands no more"
        text = f"{name} {fate}{f': {why}' if why else ''}"
        do = "grant registrar's user the right to write there" if keeping.denied else "see why etcd does not take it"
        return Finding(Level.RED, "record", text, do)
    under = f"{name} stands at {one.address}, under lease {keeping.lease}"
    if not one.takes_new:
        return Finding(Level.AMBER, "record", f"{name} drains: its container was told to end")
    if kept.record != one.id:
        text = f"{under}, beside a record {one.service}/{one.id} of another host"
        return Finding(Level.AMBER, "record", text, "give the containers names of their own if that is not meant")
    return Finding(Level.GREEN, "record", under)


def upkeep(keeping: Keeping) -> Iterator[Finding]:
    """What makes all that is known old or all that is kept uncertain; nothing if all is well."""
    if keeping.docker:
        text = f"docker is away, what is known of containers is old: {keeping.docker}"
        yield Finding(Level.AMBER, "docker", text, "systemctl status docker on that host")
    if keeping.state is Lease.SUSPECT:
        text = f"etcd has not renewed lease {keeping.lease} for longer than it lasts: {keeping.etcd or 'no answer'}"
        yield Finding(Level.AMBER, "lease", text, "see whether etcd answers that host: ambctl doctor there")
    elif keeping.etcd:
        yield Finding(Level.AMBER, "etcd", f"etcd does not answer registrar: {keeping.etcd}")
