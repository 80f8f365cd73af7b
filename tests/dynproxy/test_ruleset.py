"""The nft text of the kernel plane: made of safe parts only, accepted by nft, and no more than what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambcore.admission import IPNetwork, parse_networks
from ambcore.model import Address, Protocol
from dynproxy import adopted
from dynproxy.endpoints import Numbers, Want, planned
from dynproxy.ruleset import (
    MAX_ENDPOINT,
    NOBODY,
    SIGNATURE,
    Front,
    Port,
    Ruleset,
    are_rivals,
    change,
    endpoint_of,
    mark,
    removal,
    replacement,
    rewriting,
    table_name,
)
from fuzz.nft_words import strange
from tests.support.hosts import Host
from tests.support.random_rules import PORTS, clients, empty, histories

GOLDEN = Path(__file__).parents[1] / "golden" / "kernel_table.nft"

TCP, UDP = Port(Protocol.TCP, 6379), Port(Protocol.UDP, 53)
ONE, TWO, THREE = (Address(f"10.0.0.{number}", 6379) for number in (1, 2, 3))

families = st.sampled_from(["ip", "ip6"])
families_and_clients = families.flatmap(lambda family: clients(family).map(lambda some: (family, some)))
family_histories = families.flatmap(lambda family: histories(family, 6).map(lambda history: (family, history)))


def small() -> tuple[Ruleset, Ruleset]:
    """Two instances behind a TCP port and one behind a UDP port; then one gone and two come."""
    held = Ruleset("ip", table_name(None, [6379, 53]), None, {TCP: NOBODY, UDP: NOBODY})
    numbers = Numbers(held)
    wants = {TCP: Want("round-robin", {ONE: 2, TWO: 1}), UDP: Want("random", {Address("10.0.0.9", 53): 1})}
    first = planned(held, wants, numbers)
    return first, planned(
        first, {TCP: Want("round-robin", {TWO: 1, THREE: 1, ONE: 1}), UDP: Want("random", {})}, numbers
    )


def test_a_small_table_and_a_change_of_it_read_as_recorded() -> None:
    """Read it: it is what the kernel is told. A change of the rules changes the record, by hand or from the failure."""
    first, second = small()
    plain = replacement(first)
    chosen = replacement(replace(first, clients=parse_networks("10.0.0.0/8,192.0.2.1")))
    more = "".join(line for line in chosen.splitlines(keepends=True) if line not in plain)
    text = f"# new\n{plain}\n# change\n{change(first, second)}\n# other with --allow\n{more}"
    assert text == GOLDEN.read_text()


@settings(max_examples=40)
@given(family_histories, st.sampled_from([None, "own"]), st.data())
def test_every_text_consists_of_integers_addresses_and_known_words(
    drawn: tuple[str, list[Mapping[Port, Want]]], listen: str | None, data: st.DataObject
) -> None:
    family, history = drawn
    address = ("192.0.2.1" if family == "ip" else "2001:db8::1") if listen else None
    held = empty(family, address, data.draw(clients(family)))
    numbers = Numbers(held)
    texts = [replacement(held), removal(family, held.table)]
    for wants in history:
        new = planned(held, wants, numbers)
        texts += [change(held, new), replacement(new), rewriting(new)]
        held = new
    assert not strange("".join(texts))


@pytest.mark.parametrize(
    "host", ["10.0.0.1; flush ruleset", "10.0.0.1\n", "10.0.0.1 }", "@to", "", "10.0.0.1/8", "::1%lo"]
)
def test_no_text_can_come_from_a_hostile_address(host: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Address(host, 80)


@pytest.mark.parametrize("port", [0, 65536, -1, True, 80.0, "80", "80 }"])
def test_no_text_can_come_from_a_hostile_port(port: Any) -> None:
    with pytest.raises(ValueError, match="a port is a number"):
        Address("10.0.0.1", port)


@settings(max_examples=40)
@given(family_histories)
def test_a_change_removes_first_and_adds_last(drawn: tuple[str, list[Mapping[Port, Want]]]) -> None:
    """So that no map holds two values of one key, and no rule names what is not there."""
    family, history = drawn
    held = empty(family)
    numbers = Numbers(held)
    for wants in history:
        new = planned(held, wants, numbers)
        lines = change(held, new).splitlines()
        kinds = [
            "012"[2 * line.startswith("add element") + (not line.startswith(("delete", "add element")))]
            for line in lines
        ]
        assert kinds == sorted(kinds)
        assert change(new, new) == ""
        held = new


def test_one_instance_more_is_a_few_elements_and_no_new_map() -> None:
    """Among a thousand equal ones: its address, its slot, its place in the ring; and the draw's new length."""
    held = Ruleset("ip", "ambassador_6379", None, {TCP: NOBODY})
    numbers = Numbers(held)
    targets = {Address(f"10.1.{number // 250}.{number % 250}", 80): 1 for number in range(1000)}
    held = planned(held, {TCP: Want("round-robin", targets)}, numbers)
    text = change(held, planned(held, {TCP: Want("round-robin", {**targets, ONE: 1})}, numbers))
    assert len(text) < 1200
    assert text.count(" : ") == 4  # the ring's last one now leads to it


@pytest.mark.parametrize("number", [0, -1, MAX_ENDPOINT + 1])
def test_a_number_that_does_not_fit_a_mark_is_an_error(number: int) -> None:
    with pytest.raises(ValueError, match="an endpoint's number"):
        mark(number)


@given(st.integers(1, MAX_ENDPOINT))
def test_a_mark_names_its_endpoint(number: int) -> None:
    assert endpoint_of(mark(number)) == number
    with pytest.raises(ValueError, match="not a mark of ours"):
        endpoint_of(number)
    with pytest.raises(ValueError, match="not a mark of ours"):
        endpoint_of(SIGNATURE ^ 1 << 31 | number)


def test_rivals_are_tables_that_could_hold_one_port_of_one_address() -> None:
    everywhere, again, here, there = (
        table_name(listen, [port]) for listen, port in ((None, 80), (None, 81), ("10.0.0.1", 80), ("fd00::1", 80))
    )
    assert are_rivals(everywhere, again)
    assert are_rivals(everywhere, here)
    assert not are_rivals(here, there)
    assert not are_rivals(here, "docker")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host("", "") as host:
        yield host


def listing(host: Host, rules: Ruleset) -> list[Any]:
    text = host.output("nft", "-j", "list", "table", rules.family, rules.table)
    items: list[Any] = json.loads(text)["nftables"]
    return items


def essence(items: list[Any]) -> list[str]:
    """What a table says, without handles and the order of elements."""
    for item in items:
        for thing in item.values():
            thing.pop("handle", None)
            if "elem" in thing:
                thing["elem"].sort(key=str)
    return sorted(json.dumps(item, sort_keys=True) for item in items if "rule" not in item) + [
        json.dumps(item["rule"])
        for item in sorted(items, key=lambda item: item.get("rule", {}).get("chain", ""))
        if "rule" in item
    ]


def plain(rules: Ruleset) -> Ruleset:
    """The same without the policy of fronts that have nobody: the kernel has no rule to keep it in."""
    return replace(rules, fronts={port: front if front.slots else NOBODY for port, front in rules.fronts.items()})


@pytest.mark.netns
@settings(max_examples=30)
@given(family_histories)
def test_the_kernel_takes_every_change_and_reads_back_as_planned(
    host: Host, drawn: tuple[str, list[Mapping[Port, Want]]]
) -> None:
    """Step by step or at once, it comes to the same table."""
    family, history = drawn
    held = empty(family)
    numbers = Numbers(held)
    host.nft(replacement(held))
    for wants in history:
        new = planned(held, wants, numbers)
        for port in wants:
            numbers.forget(
                port, {held.endpoints[number] for number in held.fronts[port].slots} - set(wants[port].targets)
            )
        if text := change(held, new):
            host.nft(text)
        items = listing(host, new)
        assert adopted.ruleset(items, family, new.table, None) == plain(new)
        assert adopted.same(items, new)
        held = new
    step_by_step = essence(listing(host, held))
    host.nft(rewriting(held))
    assert essence(listing(host, held)) == step_by_step
    host.nft(replacement(held))
    assert essence(listing(host, held)) == step_by_step
    host.nft(removal(family, held.table))


@pytest.mark.netns
@settings(max_examples=30)
@given(families_and_clients)
def test_the_kernel_takes_every_list_of_clients_and_reads_it_back(
    host: Host, drawn: tuple[str, tuple[IPNetwork, ...] | None]
) -> None:
    family, some = drawn
    rules = empty(family, None, some)
    host.nft(replacement(rules))
    items = listing(host, rules)
    assert adopted.ruleset(items, family, rules.table, None) == rules
    assert adopted.same(items, rules)
    others = () if some is None else None
    assert not adopted.same(items, replace(rules, clients=others))
    host.nft(removal(family, rules.table))


@pytest.mark.netns
@settings(max_examples=15)
@given(families, st.permutations(PORTS))
def test_the_kernel_takes_a_table_for_one_listen_address(host: Host, family: str, order: list[Port]) -> None:
    listen = "192.0.2.1" if family == "ip" else "2001:db8::1"
    rules = Ruleset(family, table_name(listen, [port.number for port in order]), listen, dict.fromkeys(order, Front()))
    host.nft(replacement(rules))
    assert adopted.ruleset(listing(host, rules), family, rules.table, listen) == rules
    host.nft(removal(family, rules.table) * 2)  # twice is not an error
