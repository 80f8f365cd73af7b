"""What the packet filter's tool is told, and what it answers."""

from __future__ import annotations

import json
from typing import Any, Literal

from ambcore.admission import Admission, of_family, parse_networks
from ambcore.errors import RecordError
from ambcore.model import Address, Instance, Protocol
from ambnet.nft import QUOTED, NftError, first_line, items
from dynproxy.adopted import UnreadableError, numbers, same, tables
from dynproxy.adopted import ruleset as adopted
from dynproxy.config import parse_container
from dynproxy.endpoints import Numbers, Want, planned
from dynproxy.ruleset import DRAWS, Front, Port, Ruleset, change, removal, replacement, rewriting, table_name
from fuzz.feed import Feed
from fuzz.nft_words import strange

PORTS = (Port(Protocol.TCP, 80), Port(Protocol.TCP, 65535), Port(Protocol.UDP, 53))
LISTEN = {"ip": (None, "192.0.2.1"), "ip6": (None, "2001:db8::1")}
ANSWER: list[dict[str, Any]] = [
    {"metainfo": {"version": "1.0.6"}},
    {"table": {"family": "ip", "name": "ambassador_80", "handle": 1}},
    {"ct timeout": {"name": "unanswered"}},
    {"set": {"name": "clients", "elem": ["10.0.0.1", {"prefix": {"addr": "10.1.0.0", "len": 16}}]}},
    {"map": {"name": "fronts", "elem": [[{"concat": ["tcp", 80]}, {"goto": {"target": "tcp_80"}}]]}},
    {"map": {"name": "tcp_80_slots", "elem": [[0, 0xA3B00001], [1, 0xA3B00002]]}},
    {
        "map": {
            "name": "to",
            "elem": [[0xA3B00001, {"concat": ["10.0.0.1", 80]}], [0xA3B00002, {"concat": ["10.0.0.2", 80]}]],
        }
    },
    {"map": {"name": "next", "elem": [[0xA3B00001, 0xA3B00002], [0xA3B00002, 0xA3B00001]]}},
    {"rule": {"chain": "tcp_80", "expr": [{"mangle": {"value": {"numgen": {"mode": "inc"}}}}]}},
    {"set": {"name": "tcp_ports", "elem": [80]}},
]
ASKED = Ruleset("ip", "ambassador_80", None, {PORTS[0]: Front("round-robin", (1, 2))})


def ruleset(data: bytes) -> None:
    """A history of what records, containers and operators may ask for: every word that nft is told is one of ours."""
    feed = Feed(data)
    family = feed.pick(("ip", "ip6"))
    containers = [name for _ in range(feed.below(3)) if (name := _container(feed.text()))]
    listen = feed.pick(LISTEN[family])
    name = table_name(listen, [port.number for port in PORTS], containers)
    held = Ruleset(family, name, listen, {port: Front() for port in PORTS}, clients=_clients(feed, family))
    ids, texts = Numbers(held), [removal(family, name), replacement(held)]
    for _ in range(feed.below(4)):
        wants = {port: _want(feed, family) for port in PORTS if feed.byte() % 2}
        new = planned(held, wants, ids)
        texts += [change(held, new), replacement(new), rewriting(new)]
        held = new
    assert not strange("".join(texts)), strange("".join(texts))


def _container(text: str) -> str:
    """The name, if `--container` takes it."""
    try:
        return parse_container(text)
    except ValueError:
        return ""


def _clients(feed: Feed, family: str) -> Any:
    version: Literal[4, 6] = 4 if family == "ip" else 6
    try:
        return of_family(parse_networks(feed.pick(("10.0.0.0/8,192.0.2.1", "::/0,fd00::/8", feed.text()))), version)
    except ValueError:
        return None


def _want(feed: Feed, family: str) -> Want:
    """Instances as hostile records would have them, those that may be."""
    targets = {}
    for number in range(feed.below(6)):
        try:
            host = feed.pick(("10.0.0.", "2001:db8::")) + str(number) if feed.byte() % 2 else feed.text()
            found = Instance(feed.text(), feed.text(), Address(host, feed.below(65537)), weight=feed.below(258))
            Admission().check(found.address)
        except (ValueError, RecordError):
            continue
        if (found.address.ip.version == 6) == (family == "ip6"):
            targets[found.address] = found.weight
    return Want(feed.pick(sorted(DRAWS)), targets)


def nft(data: bytes) -> None:
    """An answer of nft's, with some of it changed or any bytes, taken for a table of ours."""
    feed = Feed(data)
    said = json.dumps({"nftables": feed.changed(ANSWER)}).encode() if feed.byte() % 4 else feed.rest()
    line = first_line(said)
    assert line.isprintable()
    assert len(line) <= QUOTED
    try:
        found = items(said)
    except NftError:
        return
    for read in (
        lambda: adopted(found, "ip", "ambassador_80", None),
        lambda: same(found, ASKED),
        lambda: tables(found),
        lambda: numbers(found),
    ):
        try:
            made = read()
        except UnreadableError:
            continue
        if isinstance(made, Ruleset):
            assert not strange(replacement(made))
