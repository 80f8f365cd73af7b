"""Why a container is registered as it is, or is not: each decision in its order, up to the one that fails.

The decisions are those of `extract` and `find`; here is what a person needs to follow them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ambcore.findings import Finding, Level
from ambcore.model import Address, Instance
from ambcore.registration.conventions import Conventions, by_port
from ambcore.registration.extract import (
    WHAT_TO_SET,
    WHERE_TO_PUBLISH,
    Host,
    Reason,
    Refusal,
    Wish,
    extract,
    name_of,
    not_serving,
    parsed_bindings,
    unreachable,
)
from ambcore.registration.labels import misled, naming, tries
from ambcore.registration.metadata import metadata
from ambcore.registration.ports import Port

ADVICE = (WHAT_TO_SET, WHERE_TO_PUBLISH)

TO_DO: Mapping[Reason, str] = {
    Reason.ABSENT: "start it, or correct the name: docker ps -a lists what there is",
    Reason.NOT_RUNNING: "docker logs {name} says why it ended, docker start {name} starts it",
    Reason.PAUSED: "docker unpause {name}",
    Reason.STARTING: "wait until its health check has passed; docker inspect {name} shows the check's last words",
    Reason.UNHEALTHY: "mend what the check complains of: it is registered again as soon as the check passes",
    Reason.PORT_PENDING: "look again in a few seconds; docker port {name} shows what is mapped",
    Reason.IGNORED: "take SERVICE_IGNORE away if it is to be registered",
    Reason.UNNAMED: "give it a label SERVICE_NAME, or start registrar without --explicit",
    Reason.NETWORK: "docker network connect NETWORK {name}, or choose one by --network or the label ambassador.network",
    Reason.DUPLICATE: "give each of them a SERVICE_ID of its own",
    Reason.UNNAMEABLE: "correct its name or its labels: a service has printable characters, no slash, no blank",
}


def explain_wish(inspected: Mapping[str, Any] | None, wish: Wish, host: Host) -> tuple[Finding, ...]:
    """The decisions on the one container that registrar was given; the last is red unless there is an instance."""
    verdict = extract(inspected, wish, host)
    if inspected is None or (isinstance(verdict, Refusal) and verdict.reason is Reason.ABSENT):
        text = verdict.text if isinstance(verdict, Refusal) else ""
        return (Finding(Level.RED, "container", text, TO_DO[Reason.ABSENT]),)
    return tuple(_up_to_red(_wish_steps(inspected, wish, host, verdict)))


def explain_container(
    inspected: Mapping[str, Any], conventions: Conventions, host: Host, *, asked: str = ""
) -> tuple[Finding, ...]:
    """The decisions on a container of a host that registers all. `asked` is the service that somebody misses: what
    names it in vain is red.
    """
    refusal = not_serving(inspected)
    steps = [*_condition(inspected, refusal)]
    if refusal is not None:
        return tuple(steps)
    decided = by_port(inspected, conventions, host)
    registered = any(isinstance(each, Instance) for verdicts in decided.values() for each in verdicts)
    steps.append(_published(inspected, tuple(decided), conventions))
    if decided:
        steps += misled(inspected, tuple(decided), asked, registered=registered)
    for port, verdicts in decided.items():
        steps += _of_port(inspected, port, verdicts, conventions, host, registered=registered)
    made = {port: each for port, verdicts in decided.items() for each in verdicts if isinstance(each, Instance)}
    if asked in {each.service for each in made.values()}:  # what is wrong with other ports is not what was asked
        return tuple(replace(step, level=Level.AMBER) if step.level is Level.RED else step for step in steps)
    missed = (port for port in made if asked and tries(inspected, port, asked))
    return (*steps, *(_called_otherwise(inspected, port, asked, made[port]) for port in missed))


def in_brief(name: str, steps: Sequence[Finding]) -> tuple[Finding, ...]:
    """What is not green of a container called `name`; where all is, the last step."""
    worth = [step for step in steps if step.level is not Level.GREEN] or steps[-1:]
    return tuple(replace(step, says=step.says if name in step.says else f"{name}: {step.says}") for step in worth)


def _up_to_red(steps: Iterable[Finding]) -> Iterator[Finding]:
    for step in steps:
        yield step
        if step.level is Level.RED:
            return


# One container, as registrar's command line names it


def _wish_steps(inspected: Mapping[str, Any], wish: Wish, host: Host, verdict: Instance | Refusal) -> Iterator[Finding]:
    name = name_of(inspected)
    yield from _condition(inspected, not_serving(inspected))
    key = f"{wish.port}/tcp"
    if isinstance(verdict, Refusal) and verdict.reason in (Reason.NOT_PUBLISHED, Reason.PORT_PENDING):
        others = "; ".join(_published_texts(inspected)) or "none is"
        if verdict.reason is Reason.PORT_PENDING:
            yield Finding(Level.RED, "ports", verdict.text, TO_DO[verdict.reason].format(name=name))
        else:
            text = f"port {key} of {name} is not published; of its ports published: {others}"
            yield Finding(Level.RED, "ports", text + _network_hint(inspected), _publish(wish.port))
        return
    places = ", ".join(_places(inspected, key)) or "the host's own network"
    yield Finding(Level.GREEN, "ports", f"port {key} of {name} is published at {places}")
    label = metadata(inspected.get("Config") or {}, wish.port).name
    lost = f"; SERVICE_NAME={label} does not count then" if label and label != wish.service else ""
    text = f"{name} is registered as {wish.service}, as registrar's command line says{lost}"
    yield Finding(Level.GREEN, "service", text)
    if isinstance(verdict, Refusal):
        yield _refused(verdict, name)
    else:
        yield _address(inspected, key, (verdict.address,), host)


# A container among all of a host


def _published(inspected: Mapping[str, Any], ports: tuple[Port, ...], conventions: Conventions) -> Finding:
    name, exposed = name_of(inspected), sorted((inspected.get("Config") or {}).get("ExposedPorts") or ())
    if conventions.internal:
        if ports:
            return Finding(Level.GREEN, "ports", f"{name} exposes {', '.join(map(str, ports))}")
        return Finding(Level.RED, "ports", f"{name} exposes no port", "run it with --expose PORT, or EXPOSE it")
    if ports:
        texts = "; ".join(_published_texts(inspected)) or f"{', '.join(map(str, ports))}, on the host's own network"
        return Finding(Level.GREEN, "ports", f"{name} publishes {texts}")
    has = f"; it exposes {', '.join(exposed)}, which is not enough" if exposed else ""
    text = f"{name} publishes no port{has}{_network_hint(inspected)}"
    return Finding(Level.RED, "ports", text, _publish(exposed[0].partition("/")[0] if exposed else "PORT"))


def _of_port(
    inspected: Mapping[str, Any],
    port: Port,
    verdicts: tuple[Instance | Refusal, ...],
    conventions: Conventions,
    host: Host,
    *,
    registered: bool,
) -> Iterator[Finding]:
    """What its service is called and where others reach it, as far as it gets. Left out on purpose is amber if others
    of the container's ports are `registered`.
    """
    name = name_of(inspected)
    made = [each for each in verdicts if isinstance(each, Instance)]
    if made:
        text = f"port {port} of {name} is service {made[0].service}: {naming(inspected, port)}"
        yield Finding(Level.GREEN, "service", text)
        yield _address(inspected, str(port), tuple(item.address for item in made), host, own=conventions.internal)
    for refusal in verdicts:
        if not isinstance(refusal, Refusal):
            continue
        if refusal.reason in (Reason.IGNORED, Reason.UNNAMED):
            yield Finding(Level.AMBER if registered else Level.RED, "service", refusal.text, TO_DO[refusal.reason])
        elif refusal.reason in (Reason.UNNAMEABLE, Reason.DUPLICATE):
            yield _refused(refusal, name, naming(inspected, port))
        else:
            yield _refused(refusal, name)


def _called_otherwise(inspected: Mapping[str, Any], port: Port, asked: str, made: Instance) -> Finding:
    """A port that was to be of the service that is asked for, and is of another."""
    more = ""
    if made.service == f"{asked}-{port.number}":
        more = "; the port is added to the name as more than one of the container's is registered"
    text = f"port {port} of {name_of(inspected)} is {made.service}, not {asked}: {naming(inspected, port)}{more}"
    do = f"ask for {made.service}, or name the port by a label SERVICE_{port.number}_NAME={asked}"
    return Finding(Level.RED, "service", text, do)


# What both share


def _condition(inspected: Mapping[str, Any], refusal: Refusal | None) -> Iterator[Finding]:
    """Whether it runs, and whether it is well; `refusal` says why not."""
    name, state = name_of(inspected), inspected.get("State") or {}
    if refusal is not None and refusal.reason in (Reason.NOT_RUNNING, Reason.PAUSED):
        do = TO_DO[refusal.reason].format(name=name)
        yield Finding(Level.RED, "container", refusal.text + _ending(state), do)
        return
    since = str(state.get("StartedAt") or "").partition(".")[0]
    identity = str(inspected.get("Id", ""))[:12]
    yield Finding(Level.GREEN, "container", f"{name} ({identity}) runs{f' since {since}' if since else ''}")
    health = state.get("Health") or {}
    if refusal is not None:
        do = TO_DO[refusal.reason].format(name=name)
        yield Finding(Level.RED, "health", refusal.text + _last_words(health), do)
    elif health.get("Status") == "healthy":
        yield Finding(Level.GREEN, "health", f"{name} passes its health check")
    else:
        yield Finding(Level.GREEN, "health", f"{name} has no health check, so it counts as healthy")


def _ending(state: Mapping[str, Any]) -> str:
    parts = [f"exit code {state['ExitCode']}"] if state.get("ExitCode") else []
    parts += ["killed for want of memory"] if state.get("OOMKilled") else []
    parts += [str(state["Error"])] if state.get("Error") else []
    return f" ({', '.join(parts)})" if parts else ""


def _last_words(health: Mapping[str, Any]) -> str:
    last = (health.get("Log") or [{}])[-1] or {}
    output = " ".join(str(last.get("Output") or "").split())
    if last.get("ExitCode") is None and not output:
        return ""
    return f": exit code {last.get('ExitCode')}{f', {output}' if output else ', without a word'}"


def _refused(refusal: Refusal, name: str, more: str = "") -> Finding:
    """Red, with the advice of the refusal itself where it gives one."""
    topic = "service" if refusal.reason in (Reason.UNNAMEABLE, Reason.DUPLICATE) else "address"
    topic = "ports" if refusal.reason in (Reason.PORT_PENDING, Reason.NOT_PUBLISHED) else topic
    says, do = refusal.text, TO_DO.get(refusal.reason, "").format(name=name)
    for advice in ADVICE:
        if says.endswith(f": {advice}"):
            says, do = says.removesuffix(f": {advice}"), advice
    says = says if name in says else f"{name}: {says}"
    return Finding(Level.RED, topic, f"{says}{f' ({more})' if more else ''}", do)


def _address(
    inspected: Mapping[str, Any], port: str, chosen: tuple[Address, ...], host: Host, *, own: bool = False
) -> Finding:
    """Which address was chosen, why, and why not the others."""
    name = name_of(inspected)
    whence = "the container's own" if own else ", ".join(dict.fromkeys(_whence(each, host) for each in chosen))
    others = [] if own else list(_not_told(inspected, port, chosen, host))
    lost = f"; not told: {', '.join(others)}" if others else ""
    text = f"port {port} of {name} is reached at {', '.join(map(str, chosen))}: {whence}{lost}"
    return Finding(Level.GREEN, "address", text)


def _whence(chosen: Address, host: Host) -> str:
    if chosen.ip == host.advertise:
        return "as --advertise says"
    return "this host's address towards etcd" if chosen.ip == host.route else "the address it is bound to"


def _not_told(inspected: Mapping[str, Any], port: str, chosen: tuple[Address, ...], host: Host) -> Iterator[str]:
    told = {each.ip for each in chosen}
    for ip, _ in parsed_bindings(_bindings(inspected, port)):
        if ip is not None and not ip.is_unspecified and ip not in told:
            why = unreachable(ip, host.docker0)
            yield f"{ip}, {why}" if why else f"{ip}, as one address is enough"


def _bindings(inspected: Mapping[str, Any], port: str) -> list[Mapping[str, Any]]:
    return ((inspected.get("NetworkSettings") or {}).get("Ports") or {}).get(port) or []


def _places(inspected: Mapping[str, Any], port: str) -> Iterator[str]:
    for ip, number in parsed_bindings(_bindings(inspected, port)):
        yield f"[{ip}]:{number}" if ip is not None and ip.version == 6 else f"{ip or '*'}:{number}"


def _published_texts(inspected: Mapping[str, Any]) -> Iterator[str]:
    """`80/tcp at 0.0.0.0:49153, [::]:49153` of each port that is published."""
    ports = (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    for port in sorted(ports, key=_number):
        if places := ", ".join(_places(inspected, port)):
            yield f"{port} at {places}"


def _number(port: str) -> tuple[int, str]:
    number = port.partition("/")[0]
    return (int(number[:6]) if number.isdecimal() else 0), port


def _publish(port: object) -> str:
    return f"run it with -p ADDRESS::{port}, where ADDRESS is one of this host's that the other hosts reach"


def _network_hint(inspected: Mapping[str, Any]) -> str:
    mode = str((inspected.get("HostConfig") or {}).get("NetworkMode") or "")
    return f" (its network is that of {mode}, which would have to publish it)" if mode.startswith("container:") else ""
