"""Which instances stand behind an address."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ambcore.holders import Holders
from ambcore.model import Address, Instance


def instance(service: str, name: str, host: int, weight: int = 1) -> Instance:
    return Instance(service, name, Address(f"10.0.0.{host}", 6379), weight=weight)


POOL = [instance(service, name, host) for service in "ab" for name in "xyz" for host in (1, 2)]
lists = st.lists(st.sampled_from(POOL), max_size=5, unique_by=lambda item: item.id)
moves = st.lists(st.tuples(st.sampled_from("ab"), lists), max_size=8)


def light(item: Instance) -> bool:
    return item.weight < 100


@given(moves)
def test_addresses_are_those_of_the_services_last_lists(script: Sequence[tuple[str, list[Instance]]]) -> None:
    """Against a whole recount after every move; some instances are the same objects as before, some are not."""
    holders, now = Holders(light), dict[str, tuple[Instance, ...]]()
    for service, drawn in script:
        items = tuple(
            sorted((instance(service, item.id, int(item.address.host[-1])) for item in drawn), key=lambda item: item.id)
        )
        kept = {item: item for item in now.get(service, ())}
        items = tuple(kept.get(item, item) for item in items)
        before = set(holders)
        move = holders.replace(service, items)
        now[service] = items
        everyone = [item for members in now.values() for item in members]
        assert set(holders) == {item.address for item in everyone}
        assert len(holders) == len(set(holders))
        assert set(move.new) == set(holders) - before
        assert set(move.gone) == before - set(holders)
        for address in holders:
            assert set(holders.at(address)) == {item for item in everyone if item.address == address}


def test_what_is_not_wanted_has_no_address() -> None:
    holders = Holders(light)
    heavy = instance("a", "x", 1, weight=200)
    assert holders.replace("a", (heavy,)).new == ()
    assert holders.of("a") == (heavy,)
    assert list(holders) == []
    assert holders.at(heavy.address) == ()


def test_rewritten_record_keeps_its_address() -> None:
    """A new weight is no reason to forget what is known of an address."""
    holders = Holders(light)
    holders.replace("a", (instance("a", "x", 1),))
    move = holders.replace("a", (instance("a", "x", 1, weight=2),))
    assert (move.new, move.gone) == ((), ())
    assert (len(move.arrived), len(move.departed)) == (1, 1)
