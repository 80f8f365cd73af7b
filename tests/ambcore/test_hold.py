"""Who is served beyond their records: the rules of `ambcore.hold`, one by one, and what holds whatever happens."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ambcore.hold import LATELY, NOTHING, Hold, Loss, Missing, first_loss, lose, review
from ambcore.model import Address, Instance, Protocol, Readiness

LEASE = 7
SECONDS = 120.0
A, B, C = (Instance("s", name, Address(f"10.0.0.{number}", 80)) for number, name in enumerate("abc", 1))


def gone(*items: Instance, at: float = 0.0, loss: Loss = Loss.EXPIRED) -> list[Missing]:
    return [Missing(item, at, loss, LEASE) for item in items]


def after(
    losses: Iterable[Missing], present: tuple[Instance, ...] = (), *, unhealthy: Iterable[str] = (), now: float = 0.0
) -> Hold:
    """What is held when these are lost at once."""
    ids = frozenset(unhealthy)
    return review(lose(NOTHING, losses, ids), present, ids, now, seconds=SECONDS)


def held(hold: Hold) -> str:
    return "".join(each.instance.id for each in hold.held)


def test_all_that_expire_at_once_are_held() -> None:
    assert held(after(gone(A, B, C))) == "abc"
    assert after(gone(A, B, C)).over(()) == (A, B, C)


def test_the_only_instance_is_held_too() -> None:
    assert held(after(gone(A))) == "a"


def test_one_of_two_or_three_is_believed_to_be_gone() -> None:
    assert held(after(gone(A), (B,))) == ""
    assert held(after(gone(A), (B, C))) == ""
    assert after(gone(A), (B, C)).over((B, C)) == (B, C)


def test_more_than_are_left_are_held_beside_those() -> None:
    hold = after(gone(A, B), (C,))
    assert held(hold) == "ab"
    assert hold.over((C,)) == (A, B, C)


def test_what_is_left_and_ill_or_drained_is_nobody() -> None:
    assert held(after(gone(A), (B,), unhealthy=["b"])) == "a"
    assert held(after(gone(A), (replace(B, readiness=Readiness.DRAINING),))) == "a"


def test_losses_of_half_a_minute_count_together() -> None:
    """Leases of several hosts do not end at the same moment."""
    one = after(gone(A), (B, C))
    two = review(lose(one, gone(B, at=5), ()), (C,), (), 5.0, seconds=SECONDS)
    assert held(two) == "ab"
    late = review(one, (B, C), (), LATELY, seconds=SECONDS)
    assert late == NOTHING
    assert held(review(lose(late, gone(B, at=LATELY), ()), (C,), (), LATELY, seconds=SECONDS)) == ""


def test_who_got_no_clients_or_did_not_answer_is_not_missed() -> None:
    assert held(after(gone(replace(A, readiness=Readiness.DRAINING)))) == ""
    assert held(after(gone(A, B), unhealthy=["a"])) == "b"


def test_who_was_deleted_is_not_missed() -> None:
    assert held(after(gone(A, B, loss=Loss.DELETED))) == ""


def test_who_turns_out_to_be_deleted_goes_at_once() -> None:
    hold = after([*gone(A, loss=Loss.UNKNOWN), replace(*gone(B, loss=Loss.UNKNOWN), lease=8)])
    assert hold.questions == {LEASE, 8}
    hold = review(hold.answered(LEASE, True), (), (), 0.0, seconds=SECONDS)
    assert (held(hold), hold.questions) == ("b", frozenset([8]))
    hold = review(hold.answered(8, False), (), (), 0.0, seconds=SECONDS)
    assert (held(hold), hold.questions) == ("b", frozenset())


def test_who_stops_to_answer_goes_at_once_and_does_not_come_back_by_itself() -> None:
    hold = review(after(gone(A, B)), (), ["a"], 1.0, seconds=SECONDS)
    assert held(hold) == "b"
    assert held(review(hold, (), (), 2.0, seconds=SECONDS)) == "b"


def test_the_others_stay_held_when_the_first_record_is_back() -> None:
    """One early registrar shall not get all the load."""
    hold = review(after(gone(A, B, C)), (A,), (), 1.0, seconds=SECONDS)
    assert held(hold) == "bc"
    hold = review(hold, (A, B), (), 2.0, seconds=SECONDS)
    assert held(hold) == "c"
    assert review(hold, (A, B, C), (), 3.0, seconds=SECONDS) == NOTHING


def test_whoever_is_registered_at_its_address_takes_its_place() -> None:
    again = replace(A, id="a-again")
    assert held(review(after(gone(A, B)), (again,), (), 1.0, seconds=SECONDS)) == "b"
    datagrams = replace(again, protocol=Protocol.UDP)
    assert held(review(after(gone(A, B)), (datagrams,), (), 1.0, seconds=SECONDS)) == "ab"


def test_nobody_is_held_for_longer_than_the_time() -> None:
    hold = after([*gone(A), *gone(B, at=10)], now=10.0)
    assert held(review(hold, (), (), SECONDS - 0.1, seconds=SECONDS)) == "ab"
    assert held(review(hold, (), (), SECONDS, seconds=SECONDS)) == "b"
    assert review(hold, (), (), SECONDS + 10, seconds=SECONDS) == NOTHING


def test_a_record_without_a_lease_ends_by_deletion_unless_etcd_has_another_past() -> None:
    assert first_loss(0, rewound=False) is Loss.DELETED
    assert first_loss(LEASE, rewound=False) is Loss.UNKNOWN
    assert first_loss(0, rewound=True) is first_loss(LEASE, rewound=True) is Loss.REWOUND
    assert after(gone(A, loss=Loss.REWOUND)).questions == frozenset()


STEPS = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from((A, B, C))),
        st.frozensets(st.sampled_from("abc")),
        st.sampled_from(Loss),
        st.floats(0, 60),
    ),
    max_size=8,
)


@given(STEPS)
def test_whatever_happens_nobody_ill_deleted_or_registered_is_held_and_nobody_for_ever(
    steps: list[tuple[frozenset[Instance], frozenset[str], Loss, float]],
) -> None:
    hold, before, now = NOTHING, frozenset[Instance](), 0.0
    for present, unhealthy, loss, later in [*steps, (frozenset[Instance](), frozenset[str](), Loss.DELETED, SECONDS)]:
        now += later
        ordered = tuple(sorted(present, key=lambda item: item.id))
        hold = lose(hold, gone(*sorted(before - present, key=lambda item: item.id), at=now, loss=loss), unhealthy)
        hold = review(hold, ordered, unhealthy, now, seconds=SECONDS)
        served = hold.over(ordered)
        assert set(ordered) <= set(served)
        assert [item.id for item in served] == sorted({item.id for item in served})
        for each in hold.held:
            assert each.loss is not Loss.DELETED
            assert each.instance.id not in unhealthy
            assert now - each.since < SECONDS
        before = present
    assert hold.held == ()


def test_every_subset_that_expires_leaves_at_least_half_served() -> None:
    """Of instances that are all well."""
    all_of_them = (A, B, C)
    for count in range(4):
        for lost in itertools.combinations(all_of_them, count):
            present = tuple(item for item in all_of_them if item not in lost)
            assert len(after(gone(*lost), present).over(present)) * 2 >= len(all_of_them)
