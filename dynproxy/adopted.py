"""What the kernel holds, read back from nft's JSON: a new process goes on from there. Pure.

`UnreadableError` means that a table is not as this version writes it: it is replaced as a whole then.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ambcore.admission import IPNetwork
from ambcore.model import Address, Protocol
from dynproxy.ruleset import DRAWS, Front, Port, Ruleset, endpoint_of, rule_counts, successors

Item = Mapping[str, Any]

_STEM = re.compile(r"(tcp|udp)_([1-9][0-9]{0,4})_slots")


class UnreadableError(Exception):
    """A table of ours that does not look like one."""


@contextmanager
def _expecting() -> Iterator[None]:
    """Whatever nft could say that we do not expect becomes UnreadableError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnreadableError(f"unexpected {type(error).__name__}: {error}") from error


@_expecting()
def ruleset(items: Sequence[Item], family: str, table: str, listen: str | None) -> Ruleset:
    """The table as a value. Raises UnreadableError."""
    maps = {item["map"]["name"]: item["map"].get("elem", []) for item in items if "map" in item}
    serving = {_port(*key["concat"]) for key, _ in maps["fronts"]}
    fronts = {
        port: Front(_policy(items, port) if port in serving else "round-robin", _slots(maps[f"{port.name}_slots"]))
        for port in _ports(maps)
    }
    endpoints = {endpoint_of(key): _address(to, family) for key, to in maps["to"]}
    forgets = any("ct timeout" in item for item in items)
    rules = Ruleset(family, table, listen, fronts, endpoints, forgets, _clients(items))
    if serving != {port for port, front in fronts.items() if front.slots}:
        raise UnreadableError("a front leads nowhere")
    if successors(rules) != {endpoint_of(key): endpoint_of(value) for key, value in maps["next"]}:
        raise UnreadableError("the ring is broken")
    if rules.endpoints.keys() != {endpoint for front in fronts.values() for endpoint in front.slots}:
        raise UnreadableError("a slot without an address, or an address without a slot")
    return rules


@_expecting()
def same(items: Sequence[Item], rules: Ruleset) -> bool:
    """Whether the table is what these rules say. Raises UnreadableError."""
    found = ruleset(items, rules.family, rules.table, rules.listen)
    slots = {port: front.slots for port, front in rules.fronts.items()}
    counts = Counter(item["rule"]["chain"] for item in items if "rule" in item)
    return (
        slots == {port: front.slots for port, front in found.fronts.items()}
        and found.endpoints == rules.endpoints
        and found.clients == rules.clients
        and counts == rule_counts(rules)
    )


@_expecting()
def tables(items: Iterable[Item]) -> list[tuple[str, str]]:
    """The family and name of every table. Raises UnreadableError."""
    return [(item["table"]["family"], item["table"]["name"]) for item in items if "table" in item]


@_expecting()
def numbers(items: Iterable[Item]) -> set[int]:
    """The elements of sets of numbers. Raises UnreadableError."""
    return {element for item in items if "set" in item for element in item["set"].get("elem", ())}


def _clients(items: Sequence[Item]) -> tuple[IPNetwork, ...] | None:
    sets = [item["set"] for item in items if item.get("set", {}).get("name") == "clients"]
    if not sets:
        return None
    return tuple(sorted(map(_network, sets[0].get("elem", ()))))


def _network(element: Any) -> Any:
    if isinstance(element, str):
        return ipaddress.ip_network(element)
    return ipaddress.ip_network((element["prefix"]["addr"], element["prefix"]["len"]))


def _ports(maps: Mapping[str, Any]) -> Iterator[Port]:
    for name in maps:
        if stem := _STEM.fullmatch(name):
            yield _port(stem[1], int(stem[2]))


def _port(protocol: str, number: int) -> Port:
    return Port(Protocol(protocol), number)


def _address(value: Any, family: str) -> Address:
    host, port = value["concat"]
    address = Address(host, port)
    if (address.ip.version == 6) != (family == "ip6"):
        raise UnreadableError(f"{address} in a table of family {family}")
    return address


def _slots(elements: list[Any]) -> tuple[int, ...]:
    places = {int(place): endpoint_of(value) for place, value in elements}
    if places.keys() != set(range(len(places))):
        raise UnreadableError("a slot is missing")
    return tuple(places[place] for place in range(len(places)))


def _policy(items: Sequence[Item], port: Port) -> str:
    """Which draw the front's chain makes; it stands in the second rule."""
    text = " ".join(str(item["rule"]["expr"]) for item in items if item.get("rule", {}).get("chain") == port.name)
    mode = "source-hash" if "jhash" in text else "random" if "'random'" in text else "round-robin"
    return mode if mode in DRAWS else "round-robin"
