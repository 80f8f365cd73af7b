"""The kernel plane's rules: what the kernel shall hold, and the nft text from one state to the next. Pure.

One table per address family holds all of it:

    map fronts        protocol . port -> the chain of that front; a front without an instance is not in it, and its
                      clients come to the relay's listener
    chain tcp_6379    draws a slot, then asks three maps: slot -> endpoint, endpoint dead?, endpoint -> address
    chain tcp_6379_ring   steps from a dead endpoint to the next live one; when all are dead, on to the relay
    set clients       whom `--allow` lets in; the others come to the relay's listener, which refuses them
    set dead          endpoints that refused lately; the kernel writes it, a few seconds each
    ct timeout unanswered   forgets a connection without an answer before its client asks again
    chain guard       sees what leaves: counts it, and drops refusals, so that a client only sees its own retransmission

A connection's mark says which endpoint it went to: SIGNATURE, and the endpoint's number in the low bits. Every text is
made of integers, parsed addresses and the names below, and of nothing else.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ambcore.admission import IPNetwork
from ambcore.model import Address, Protocol

SIGNATURE, SIGNATURE_MASK = 0xA3B00000, 0xFFF00000
MAX_ENDPOINT = 0x000FFFFF
DEAD_FOR = 5  # seconds an endpoint is passed by after a refusal; with a control process alive its checks take over
STEPS = 8  # endpoints the ring passes by for one client
# Seconds after which a SYN without an answer is forgotten: the client sends it again after one (RFC 6298, 2.1), timers
# are never early, and what is no longer known is balanced anew. So a swallowed SYN costs a second, with nobody's help.
UNANSWERED = 1
PREFIX = "ambassador_"  # of every table that is ours

# What a new connection's slot is drawn by: policy -> the expression, for IPv4 and for IPv6. A policy that is not here
# is the relay's. The seed is fixed, for a client's slot must not change with the rules.
DRAWS: Mapping[str, tuple[str, str]] = {
    "round-robin": ("numgen inc", "numgen inc"),
    "random": ("numgen random", "numgen random"),
    "source-hash": ("jhash ip saddr", "jhash ip6 saddr"),
}
SEED = " seed 0xa3b"

# Just before Docker's chains, which sit at dstnat and srcnat: a connection to our own port is ours.
DSTNAT, SRCNAT, GUARD = "dstnat - 5", "srcnat - 5", "mangle"

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port that clients come to."""

    protocol: Protocol
    number: int

    @property
    def name(self) -> str:
        """The stem of its objects' names in the kernel."""
        return f"{self.protocol.value}_{self.number}"


@dataclass(frozen=True, slots=True)
class Front:
    """Who is behind a port: endpoint numbers by slot, an endpoint as often as its weight says; nobody if empty.

    `start` is the slot that round robin begins with: rules that are written anew count from the beginning. `ring` has
    the endpoints, each once, in the order in which one stands in for another.
    """

    policy: str = "round-robin"
    slots: tuple[int, ...] = ()
    start: int = field(default=0, compare=False)
    ring: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ring", tuple(sorted(set(self.slots))))


NOBODY = Front()


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything that one table says. `listen` is the one address it serves, None for every local one.

    `clients` are the networks whose clients it serves, sorted and apart from each other; None for everybody's.
    `endpoints` has exactly those that are in a slot of a front; no endpoint is in two fronts. `forgets` is false on a
    kernel without timeouts of one's own for connections (CONFIG_NF_CONNTRACK_TIMEOUT).
    """

    family: str  # "ip" or "ip6"
    table: str
    listen: str | None = None
    fronts: Mapping[Port, Front] = field(default_factory=dict)
    endpoints: Mapping[int, Address] = field(default_factory=dict)
    forgets: bool = True
    clients: tuple[IPNetwork, ...] | None = None


def table_name(listen: str | None, ports: Iterable[int], containers: Iterable[str] = ()) -> str:
    """The name under which a process finds its table again: by the lowest port it holds, which no other can hold.

    Where the ports are those of containers, and come and go with them, by a checksum of the containers' names.
    """
    where = "" if listen is None else listen.replace(":", "-") + "_"
    names = "\n".join(sorted(containers))
    return f"{PREFIX}{where}" + (f"of-{zlib.crc32(names.encode()):08x}" if names else f"{min(ports)}")


def addresses_of(rules: Ruleset, port: Port) -> frozenset[Address]:
    """Where new connections of a port go."""
    return frozenset(rules.endpoints[endpoint] for endpoint in rules.fronts.get(port, NOBODY).slots)


def with_ports(rules: Ruleset, ports: Iterable[Port]) -> Ruleset:
    """The same with these ports and no others; nobody is behind a new one."""
    fronts = {port: rules.fronts.get(port, NOBODY) for port in ports}
    served = {number for front in fronts.values() for number in front.ring}
    endpoints = {number: address for number, address in rules.endpoints.items() if number in served}
    return replace(rules, fronts=fronts, endpoints=endpoints)


def are_rivals(one: str, other: str) -> bool:
    """Whether both names are of tables of ours that could hold one port of one address."""
    if not one.startswith(PREFIX) or not other.startswith(PREFIX):
        return False
    where, elsewhere = (name.removeprefix(PREFIX).rpartition("_")[0] for name in (one, other))
    return where == elsewhere or not where or not elsewhere


def mark(endpoint: int) -> int:
    """The connection mark of an endpoint; raises ValueError when the number does not fit."""
    if not 0 < endpoint <= MAX_ENDPOINT:
        raise ValueError(f"an endpoint's number is 1 to {MAX_ENDPOINT}, not {endpoint}")
    return SIGNATURE | endpoint


def endpoint_of(value: int) -> int:
    """The endpoint that a connection mark names; raises ValueError for a mark that is not ours."""
    if value & SIGNATURE_MASK != SIGNATURE:
        raise ValueError(f"not a mark of ours: {value:#x}")
    return value & ~SIGNATURE_MASK


def removal(family: str, table: str) -> str:
    """The text that removes a table, whether or not it exists."""
    return f"add table {family} {table}\ndelete table {family} {table}\n"


def replacement(rules: Ruleset) -> str:
    """The transaction that makes the table anew, whatever was there before."""
    return removal(rules.family, rules.table) + "\n".join(_Text(rules).everything()) + "\n"


def change(old: Ruleset, new: Ruleset) -> str:
    """The transaction from `old` to `new`, which have the same ports; empty if there is nothing to do.

    Removals come first. Who refused lately, and what was counted, stays.
    """
    return "".join(line + "\n" for line in _Text(new).since(old))


def rewriting(rules: Ruleset) -> str:
    """The transaction that writes every rule anew and leaves sets, maps and counters as they are."""
    return "".join(line + "\n" for line in _Text(rules).chains())


def rule_counts(rules: Ruleset) -> Counter[str]:
    """How many rules each chain has."""
    return Counter(line.split()[4] for line in _Text(rules).chains() if line.startswith("add rule "))


class _Text:
    """Writes one ruleset."""

    def __init__(self, rules: Ruleset) -> None:
        self.rules = rules
        self.where = f"{rules.family} {rules.table}"

    def everything(self) -> Iterator[str]:
        rules = self.rules
        yield f"add table {self.where}"
        yield f"add set {self.where} dead {{ type mark; size 65536; flags dynamic,timeout; timeout {DEAD_FOR}s; }}"
        if rules.forgets:
            yield (
                f"add ct timeout {self.where} unanswered "
                f"{{ protocol tcp; l3proto {rules.family}; policy = {{ syn_sent : {UNANSWERED} }} ; }}"
            )
        if rules.clients is not None:
            yield f"add set {self.where} clients {{ type {self._address_type}; flags interval; }}"
            if rules.clients:
                yield f"add element {self.where} clients {{ {', '.join(map(str, rules.clients))} }}"
        yield f"add map {self.where} to {{ type mark : {self._address_type} . inet_service; }}"
        yield f"add map {self.where} next {{ type mark : mark; }}"
        yield f"add map {self.where} fronts {{ type inet_proto . inet_service : verdict; }}"
        for protocol in Protocol:
            yield f"add set {self.where} {protocol.value}_ports {{ type inet_service; }}"
            yield f"add map {self.where} {protocol.value}_all {{ type inet_service : counter; }}"
        for port in rules.fronts:
            yield from self._declare(port)
        yield from self.chains()
        yield from self._add(_differences(Ruleset(rules.family, rules.table), rules))

    def _declare(self, port: Port) -> Iterator[str]:
        name, protocol, number = port.name, port.protocol.value, port.number
        yield f"add map {self.where} {name}_slots {{ type mark : mark; }}"
        for what in ("new", "all"):
            yield f"add counter {self.where} {name}_{what}"
        yield f"add element {self.where} {protocol}_ports {{ {number} }}"
        yield f'add element {self.where} {protocol}_all {{ {number} : "{name}_all" }}'

    def chains(self) -> Iterator[str]:
        """Every chain, emptied and filled."""
        for port, front in self.rules.fronts.items():
            yield from self._front_chains(port, front)
        yield from self._chain("prerouting", self._prerouting(), f"type nat hook prerouting priority {DSTNAT};")
        yield from self._chain("postrouting", self._postrouting(), f"type nat hook postrouting priority {SRCNAT};")
        yield from self._chain("guard", self._guard(), f"type filter hook postrouting priority {GUARD};")

    def _chain(self, name: str, rules: Iterable[str], hook: str = "") -> Iterator[str]:
        yield f"add chain {self.where} {name}" + (f" {{ {hook} }}" if hook else "")
        yield f"flush chain {self.where} {name}"
        for rule in rules:
            yield f"add rule {self.where} {name} {rule}"

    def _front_chains(self, port: Port, front: Front) -> Iterator[str]:
        yield from self._chain(f"{port.name}_ring", self._ring(front))
        yield from self._chain(port.name, self._draw(port, front))

    def _draw(self, port: Port, front: Front) -> Iterator[str]:
        """To whom a new connection goes."""
        if not front.slots:
            return
        if port.protocol is Protocol.TCP:
            # Begun while nobody tracked it, say when our rules were flushed: the relay carries it.
            yield "tcp flags & (syn | ack) != syn accept"
        yield f"counter name {port.name}_new"
        if port.protocol is Protocol.TCP and self.rules.forgets:
            yield 'ct timeout set "unanswered"'
        yield from self._slot(front)
        yield f"ct mark set ct mark map @{port.name}_slots"
        yield f"ct mark @dead jump {port.name}_ring"
        yield f"meta l4proto {port.protocol.value} dnat {self.rules.family} addr . port to ct mark map @to"

    def _slot(self, front: Front) -> Iterator[str]:
        """Which slot a new connection draws, into its mark."""
        draw, count = DRAWS[front.policy][self.rules.family == "ip6"], len(front.slots)
        seed = SEED if draw.startswith("jhash") else ""
        offset = f" offset {front.start}" if front.start else ""
        yield f"ct mark set {draw} mod {count}{seed}{offset}"
        if front.start:  # what is past the end begins anew, in turn as well
            yield f"ct mark >= {count} ct mark set {draw} mod {front.start}"

    def _ring(self, front: Front) -> Iterator[str]:
        """The next one that is not dead; when there is none, the connection is not ours and goes to the relay."""
        for _ in range(_steps(front)):
            yield "ct mark set ct mark map @next"
            yield "ct mark != @dead return"
        yield "ct mark set 0 accept"

    def _prerouting(self) -> Iterator[str]:
        local = f"{self.rules.family} daddr {self.rules.listen}" if self.rules.listen else "fib daddr type local"
        clients = "" if self.rules.clients is None else f"{self.rules.family} saddr @clients "
        yield f"{local} {clients}meta l4proto . th dport vmap @fronts"

    def _postrouting(self) -> Iterator[str]:
        yield f"ct mark & {SIGNATURE_MASK:#x} == {SIGNATURE:#x} masquerade"

    def _guard(self) -> Iterator[str]:
        """Counts; then refusals: a reset in answer to a SYN has sequence number 0; an unreachable before any answer.

        Whoever gets neither sends its SYN again, and that is balanced anew: the reset has closed the connection's
        entry, and an entry without an answer is forgotten by then. UDP has no such moment: a flow stays with its
        endpoint until it pauses, or somebody deletes its entry. A packet too big for the way is reported, answered or
        not.
        """
        yield f"ct mark & {SIGNATURE_MASK:#x} != {SIGNATURE:#x} accept"
        if self.rules.listen:  # another proxy may hold the same port of another address, with the same marks
            yield f"ct original {self.rules.family} daddr != {self.rules.listen} accept"
        not_refused = "tcp flags & (rst | ack) != rst | ack accept"  # nearly everything leaves here
        yield f"meta l4proto tcp {self._count(Protocol.TCP)} {not_refused}"
        yield f"meta l4proto udp {self._count(Protocol.UDP)} accept"
        dead = "update @dead { ct mark } drop"
        refusal = "tcp flags & (rst | ack) == rst | ack tcp sequence 0 ct direction reply"
        yield f"{refusal} ct original proto-dst @tcp_ports {dead}"
        icmp = (
            "icmpv6 type destination-unreachable"
            if self.rules.family == "ip6"
            else "icmp type destination-unreachable icmp code != frag-needed"
        )
        for protocol in Protocol:
            name = protocol.value
            yield (
                f"{icmp} ct status & seen-reply == 0 ct original protocol {name} "
                f"ct original proto-dst @{name}_ports {dead}"
            )

    def _count(self, protocol: Protocol) -> str:
        """Count a packet for its port; one that is not ours goes no further in the rule. A lookup is the dearer way."""
        mine = [port for port in self.rules.fronts if port.protocol is protocol]
        if len(mine) == 1:
            return f"ct original proto-dst {mine[0].number} counter name {mine[0].name}_all"
        return f"counter name ct original proto-dst map @{protocol.value}_all"

    def since(self, old: Ruleset) -> Iterator[str]:
        """What differs from `old`."""
        differences = _differences(old, self.rules)
        for item in differences:
            if item.gone:
                yield f"delete element {self.where} {item.name} {{ {', '.join(item.gone)} }}"
        for port, front in self.rules.fronts.items():
            before = old.fronts[port]
            if _steps(front) != _steps(before):
                yield from self._chain(f"{port.name}_ring", self._ring(front))
            if _draws(front) != _draws(before):
                yield from self._chain(port.name, self._draw(port, front))
        yield from self._add(differences)

    def _add(self, differences: Sequence[_Difference]) -> Iterator[str]:
        for item in reversed(differences):
            if item.come:
                yield f"add element {self.where} {item.name} {{ {', '.join(item.come)} }}"

    @property
    def _address_type(self) -> str:
        return "ipv6_addr" if self.rules.family == "ip6" else "ipv4_addr"


def _steps(front: Front) -> int:
    """How far the ring looks on for one client, at most."""
    return min(STEPS, len(front.ring) - 1)


def _draws(front: Front) -> tuple[str, int, int]:
    """What the draw's rules depend on."""
    return front.policy, len(front.slots), front.start


@dataclass(frozen=True, slots=True)
class _Difference:
    """What a map's elements lose and gain, as text."""

    name: str
    gone: list[str]
    come: list[str]


def _differences(old: Ruleset, new: Ruleset) -> list[_Difference]:
    """Map by map, in the order in which elements go; they come in the opposite order."""
    result = [_difference("fronts", _serving(old), _serving(new), _served, lambda port: f"goto {port.name}")]
    result += [
        _difference(f"{port.name}_slots", _numbered(old.fronts.get(port, NOBODY)), _numbered(front), str, _mark)
        for port, front in new.fronts.items()
    ]
    result.append(_difference("next", successors(old), successors(new), _mark, _mark))
    result.append(_difference("to", old.endpoints, new.endpoints, _mark, lambda to: f"{to.host} . {to.port}"))
    return result


def _difference(
    name: str, old: Mapping[K, V], new: Mapping[K, V], key: Callable[[K], str], value: Callable[[V], str]
) -> _Difference:
    """Only what differs becomes text: of 10,000 endpoints few change at a time."""
    # Most values are the very same object, which is cheaper to see than that they are equal.
    gone = [key(item) for item, was in old.items() if (now := new.get(item)) is not was and now != was]
    come = [
        f"{key(item)} : {value(now)}" for item, now in new.items() if (was := old.get(item)) is not now and was != now
    ]
    return _Difference(name, gone, come)


def _serving(rules: Ruleset) -> dict[Port, Port]:
    return {port: port for port, front in rules.fronts.items() if front.slots}


def _served(port: Port) -> str:
    return f"{port.protocol.value} . {port.number}"


def _numbered(front: Front) -> dict[int, int]:
    return dict(enumerate(front.slots))


def successors(rules: Ruleset) -> dict[int, int]:
    """Which endpoint stands in for which: a ring in each front."""
    result: dict[int, int] = {}
    for front in rules.fronts.values():
        ring = front.ring
        result.update(zip(ring, ring[1:] + ring[:1], strict=True))
    return result


def _mark(endpoint: int) -> str:
    return hex(mark(endpoint))
