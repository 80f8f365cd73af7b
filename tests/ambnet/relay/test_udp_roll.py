"""Who is forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from ambnet.relay.udp_roll import SHARE, Roll


@dataclass(eq=False)
class Client:
    name: str
    seen: float = 0.0
    idle: float = 60.0
    among: OrderedDict[Any, None] = field(default_factory=OrderedDict)


def roll_of(*clients: Client) -> Roll[Client]:
    roll: Roll[Client] = Roll()
    for client in clients:
        roll.add(client)
        roll.shortest = min(roll.shortest, client.idle)
    return roll


def test_nobody_goes_first_when_nobody_is_known() -> None:
    assert roll_of().first_to_go(0) is None
    assert not roll_of()


def test_the_longest_silent_goes_first() -> None:
    a, b, c = (Client(name) for name in "abc")
    roll = roll_of(a, b, c)
    a.among.move_to_end(a)
    assert roll.first_to_go(3) is b
    roll.remove(b)
    assert roll.first_to_go(3) is c
    assert list(roll) == [c, a]


def test_newcomers_go_before_regulars_where_they_crowd() -> None:
    """However many come, and however long the regulars were silent."""
    regulars = [Client(f"regular {number}") for number in range(SHARE - 1)]
    roll = roll_of(*regulars)
    for client in regulars:
        roll.trust(client)
    most = SHARE
    for number in range(100):
        newcomer = Client(f"newcomer {number}")
        roll.add(newcomer)
        while len(roll) > most:
            victim = roll.first_to_go(most)
            assert victim is not None
            assert victim not in regulars
            roll.remove(victim)
    assert len(roll) == most
    assert set(regulars) < set(roll)


def test_regulars_go_when_newcomers_are_few() -> None:
    """A roll that is full of regulars gives a newcomer a place for the time until its answer comes."""
    regulars = [Client(f"regular {number}") for number in range(4 * SHARE)]
    roll = roll_of(*regulars)
    for client in regulars:
        roll.trust(client)
    assert roll.first_to_go(4 * SHARE) is regulars[0]


def test_each_may_be_silent_for_a_time_of_its_own() -> None:
    brief, lasting, regular = Client("brief", 1.0, 5.0), Client("lasting", 2.0, 60.0), Client("regular", 3.0, 5.0)
    roll = roll_of(brief, lasting, regular)
    roll.trust(regular)
    assert roll.silent(5.9) == []
    assert roll.silent(6.0) == [brief]
    assert roll.silent(8.0) == [brief, regular]
    assert roll.silent(62.0) == [brief, lasting, regular]
