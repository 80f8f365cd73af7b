"""No rule can be written by whoever writes records: what nft is told comes of numbers and addresses alone."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from ambcore.history import Changed, KeyValue
from ambcore.model import Address, Protocol
from ambcore.table import Reader, Table, fold
from dynproxy.endpoints import Numbers, Want, planned
from dynproxy.ruleset import NOBODY, Port, Ruleset, change, removal, replacement, table_name
from fuzz.nft_words import strange
from tests.support.hosts import Host

RECORDS = 3000
PORTS = (Port(Protocol.TCP, 6379), Port(Protocol.UDP, 6379))
THEIRS = "table inet theirs {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n"
# What somebody would write who knows what nft reads.
WORDS = (
    *(
        "10.1.2.3",
        "2001:db8::7",
        "10.1.2.3; flush ruleset",
        "10.1.2.3 }\nflush ruleset\n",
        "} ; delete table inet theirs",
    ),
    *("@to", "$x", 'include "/etc/shadow"', "# ", "\\\n", "10.1.2.3/0", "0.0.0.0-255.255.255.255"),
    *(
        "redis-A",
        "accept",
        "drop",
        "masquerade",
        "x\x00y",
        "\u2028flush ruleset",
        '"',
        "'",
        "`id`",
        "$(id)",
        "tcp_6379",
        "|",
        "&",
    ),
)


def hostile(lot: random.Random) -> KeyValue:
    """A record with such a word in one or more places of its key and value."""

    def some(usual: object) -> object:
        return lot.choice(WORDS) if lot.random() < 0.25 else usual

    name = f"{some('one')}{lot.randrange(40)}"
    address = f"10.{lot.randrange(3)}.0.{lot.randrange(1, 250)}"
    value = {"host": some(address), "port": some(lot.choice((80, 8080))), "weight": some(lot.choice((1, 2, 3)))}
    value |= {"protocol": some(lot.choice(("tcp", "udp"))), "owner": some("core-01"), "tags": [some("t")]}
    text = json.dumps(value) if lot.random() < 0.8 else f"{some(address)}:{some(80)}"
    return KeyValue(f"/services/redis-A/{name}".encode(), text.encode(), 1)


def tables() -> Iterator[Table]:
    """The table after every hundred hostile records."""
    lot = random.Random(6379)
    table = Table()
    for _ in range(RECORDS // 100):
        table, _ = fold(table, Changed(tuple(hostile(lot) for _ in range(100)), 1), Reader())
        yield table


@pytest.mark.netns
def test_hostile_records_write_no_rule_and_touch_no_table_but_ours() -> None:
    """Every transaction is of known words, nft takes it as it is meant, and what others have there stays as it was."""
    ruleset = Ruleset("ip", table_name(None, [6379]), None, dict.fromkeys(PORTS, NOBODY))
    held, numbers = ruleset, Numbers(ruleset)
    with Host("", "") as host:
        host.nft(THEIRS)
        theirs = host.output("nft", "list", "table", "inet", "theirs")
        host.nft(replacement(held))
        for table in tables():
            wants = {port: Want("round-robin", targets(table, port)) for port in PORTS}
            new = planned(held, wants, numbers)
            text = change(held, new)
            assert not strange(text)
            host.nft(text)
            held = new
        assert len(held.endpoints) > 20, "the generator makes good records, too"
        assert host.output("nft", "list", "table", "inet", "theirs") == theirs
        listed = host.output("nft", "list", "tables").split("\n")
        assert sorted(filter(None, listed)) == ["table inet theirs", f"table ip {held.table}"]
        host.nft(removal("ip", held.table))
        assert host.output("nft", "list", "ruleset").strip() == theirs.strip()


def targets(table: Table, port: Port) -> dict[Address, int]:
    """The IPv4 instances behind a port with their weights."""
    found = (item for item in table.instances("redis-A") if item.protocol is port.protocol)
    return {item.address: item.weight for item in found if item.address.ip.version == 4}
