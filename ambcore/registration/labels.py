"""Which label or variable named a service, which lost against it, and which were meant to and could not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from ambcore.findings import Finding, Level
from ambcore.registration.conventions import image_name
from ambcore.registration.essence import said
from ambcore.registration.extract import name_of
from ambcore.registration.metadata import MEANINGS, PREFIX
from ambcore.registration.ports import Port

NO_NAMES = ("TAGS", "ID", "IGNORE")  # what these say is no service's name
ALIKE = 0.8  # of 1: SERVICE_NMAE, not SERVICE_TAGS


def naming(inspected: Mapping[str, Any], port: Port) -> str:
    """`label SERVICE_80_NAME; variable SERVICE_NAME=other lost`, or that the image named it."""
    names = _names(inspected, port)
    if not names:
        image = image_name(str((inspected.get("Config") or {}).get("Image") or ""))
        return f"the name of its image, {image}, as there is no SERVICE_NAME" if image else "it has no SERVICE_NAME"
    *lost, (kind, name, value) = names
    losers = ", ".join(f"{kind} {name}={value}" for kind, name, value in reversed(lost))
    return f"{kind} {name}={value}" + (f"; {losers} lost against it" if losers else "")


def tries(inspected: Mapping[str, Any], port: Port, service: str) -> bool:
    """Whether one of those that could name a port says this name, be it that another beats it."""
    return any(value == service for _, _, value in _names(inspected, port))


def _names(inspected: Mapping[str, Any], port: Port) -> list[tuple[str, str, str]]:
    """(kind, name, value) of all that name a port's service; the last one counts."""
    found = [each for each in said(inspected) if each[2] and _rank(each[1], port)]
    return sorted(found, key=lambda each: _rank(each[1], port))


def _rank(name: str, port: Port) -> int:
    """0 for what does not name this port's service; more for what beats the others."""
    key = name.removeprefix(PREFIX).lower() if name.startswith(PREFIX) else ""
    return 2 if key == f"{port.number}_name" else int(key == "name")


def misled(inspected: Mapping[str, Any], ports: Sequence[Port], asked: str, *, registered: bool) -> list[Finding]:
    """What was meant to name a service and does not: for a port that is none of these, or misspelt.

    Red if it names the service that is `asked` for, or if nothing of the container is `registered`.
    """
    findings = []
    for kind, name, value in said(inspected):
        missed = bool(asked) and value == asked
        if value and (why := _why_in_vain(name, ports, missed=missed)) is not None:
            red = missed or not registered
            text = f"{kind} {name}={value} of {name_of(inspected)} does not count: {why[0]}"
            findings.append(Finding(Level.RED if red else Level.AMBER, "label", text, why[1]))
    return findings


def mentions(inspected: Mapping[str, Any], service: str) -> bool:
    """Whether a container says this name where it could mean a service, be it in vain."""
    return any(value == service and not name.upper().endswith(NO_NAMES) for _, name, value in said(inspected))


def _why_in_vain(name: str, ports: Sequence[Port], *, missed: bool) -> tuple[str, str] | None:
    """Why a label or variable has no effect and what to do, or None if it has one. `missed`: it names what somebody
    looks for, and was surely meant to.
    """
    if not name.startswith(PREFIX):
        right = _nearest(name) or (f"{PREFIX}NAME" if missed else None)
        return None if right is None else (f"it would have to be called {right}", f"call it {right}")
    number, underscore, rest = name.removeprefix(PREFIX).partition("_")
    if number.isdecimal() and underscore:
        numbers = {port.number for port in ports}
        if int(number[:6]) not in numbers and rest.lower() in MEANINGS:
            has = ", ".join(map(str, ports))
            right = f"{PREFIX}{ports[0].number}_{rest.upper()}"
            return f"it is for port {number}, and the container's are {has}", f"call it {right}"
        return None
    right = _nearest(name)
    known = name.removeprefix(PREFIX).lower() in MEANINGS
    return None if known or right is None else (f"it would have to be called {right}", f"call it {right}")


def _nearest(name: str) -> str | None:
    """The name that was probably meant; None if it resembles none."""
    spelt = name.upper().replace(".", "_").replace("-", "_")
    right = {f"{PREFIX}{meaning.upper()}": 0.0 for meaning in MEANINGS}
    if spelt in right:
        return spelt
    alike = {each: SequenceMatcher(None, spelt, each).ratio() for each in right}
    best = max(alike, key=lambda each: alike[each])
    return best if alike[best] >= ALIKE and abs(len(best) - len(spelt)) <= 1 else None
