"""What is read back from the kernel: as planned, or UnreadableError, and never another error."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.model import Address, Protocol
from dynproxy import adopted
from dynproxy.adopted import UnreadableError
from dynproxy.ruleset import mark, replacement
from tests.support.hosts import Host
from tests.support.kernel_table import TCP80, UDP53, KernelTable

pytestmark = pytest.mark.netns

A, B, C = (Address(f"10.0.0.{number}", 80) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host("", "") as host:
        yield host


@pytest.fixture
def table(host: Host) -> KernelTable:
    return made(host)


def made(host: Host) -> KernelTable:
    table = KernelTable(host)
    table.serve(TCP80, A, B, policy="random")
    table.share(UDP53, {A: 1, C: 2})
    return table


@pytest.fixture(scope="module")
def listing(host: Host) -> list[Any]:
    """A real one, with an endpoint that refused."""
    table = made(host)
    host.nft(f"add element ip {table.held.table} dead {{ {mark(1):#x} }}\n")
    return table.items()


def read(items: Any) -> None:
    """All that is ever read of a table."""
    adopted.ruleset(items, "ip", "ambassador_53", None)


def test_a_real_listing_is_read(listing: list[Any]) -> None:
    read(listing)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**32),
    st.floats(),
    st.sampled_from(["", "tcp", "tcp_80_slots", "::ffff:10.0.0.1", "dead", "fronts", "\x00"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), min_size=1, max_size=3),
    st.just({"concat": ["tcp", 80]}),
)


@given(st.data())
def test_a_listing_with_anything_in_any_place_is_read_or_unreadable(listing: list[Any], data: st.DataObject) -> None:
    items = copy.deepcopy(listing)
    path = data.draw(st.sampled_from(list(places(items))[1:]))
    within = items
    for key in path[:-1]:
        within = within[key]
    if data.draw(st.booleans()):
        del within[path[-1]]
    else:
        within[path[-1]] = data.draw(junk)
    for reading in (
        lambda: adopted.ruleset(items, "ip", "ambassador_53", None),
        lambda: adopted.tables(items),
        lambda: adopted.numbers(items),
    ):
        with suppress(UnreadableError):
            reading()


@pytest.mark.parametrize("items", [[], [1], ["map"], [None], [[]], [{"map": 5}], [{"map": {}}], [{"metainfo": {}}]])
def test_what_is_no_listing_of_a_table_is_unreadable(items: Any) -> None:
    with pytest.raises(UnreadableError):
        adopted.ruleset(items, "ip", "ambassador_53", None)


# What somebody could do to a table of ours: 1 and 2 are behind the TCP port, 3 and 4 behind the UDP port.
TAMPERED = {
    "an address gone": f"delete element ip ambassador_53 to {{ {mark(1):#x} }}",
    "an address too many": f"add element ip ambassador_53 to {{ {mark(9):#x} : 10.0.0.9 . 80 }}",
    "a mark that is not ours": "add element ip ambassador_53 to { 5 : 10.0.0.9 . 80 }",
    "a slot gone": "delete element ip ambassador_53 tcp_80_slots { 0 }",
    "a slot too many": f"add element ip ambassador_53 tcp_80_slots {{ 7 : {mark(1):#x} }}",
    "a slot of nobody's": f"add element ip ambassador_53 tcp_80_slots {{ 2 : {mark(9):#x} }}",
    "no slots": "flush map ip ambassador_53 tcp_80_slots",
    "no front": "delete element ip ambassador_53 fronts { tcp . 80 }",
    "no fronts": "flush map ip ambassador_53 fronts",
    "a front that is not ours": "add element ip ambassador_53 fronts { tcp . 81 : accept }",
    "no ring": "flush map ip ambassador_53 next",
    "a ring that is open": f"delete element ip ambassador_53 next {{ {mark(2):#x} }}",
}


@pytest.mark.parametrize("tampering", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_tampered_table_is_unreadable_and_a_replacement_mends_it(table: KernelTable, tampering: str) -> None:
    table.host.nft(tampering + "\n")
    with pytest.raises(UnreadableError):
        table.read()
    table.host.nft(replacement(table.held))
    assert adopted.same(table.items(), table.held)


@pytest.mark.parametrize("chain", ["guard", "prerouting", "postrouting", "tcp_80", "tcp_80_ring", "udp_53"])
@pytest.mark.parametrize("how", ["flush chain ip ambassador_53 {}", "add rule ip ambassador_53 {} accept"])
def test_rules_gone_or_too_many_are_noticed(table: KernelTable, chain: str, how: str) -> None:
    assert adopted.same(table.items(), table.held)
    table.host.nft(how.format(chain) + "\n")
    assert not adopted.same(table.items(), table.held)


def test_other_endpoints_are_noticed(table: KernelTable) -> None:
    told = table.held
    table.serve(TCP80, A, C)
    assert not adopted.same(table.items(), told)


@pytest.mark.parametrize("policy", ["round-robin", "random", "source-hash"])
def test_the_policy_is_read_from_the_draw(table: KernelTable, policy: str) -> None:
    table.serve(TCP80, A, B, C, policy=policy)
    assert table.read().fronts[TCP80].policy == policy


def test_tables_and_sets_of_numbers_are_listed(listing: list[Any]) -> None:
    assert adopted.tables(listing) == [("ip", "ambassador_53")]
    ports = [item for item in listing if item.get("set", {}).get("name") == f"{Protocol.TCP}_ports"]
    assert adopted.numbers(ports) == {80}
