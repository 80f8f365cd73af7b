"""Which instances a route asks, in which order, and what it remembers of them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ambnet.relay.balanced import balanced
from ambnet.relay.protocol import changes
from ambnet.relay.route import Order, Route, in_order
from ambnet.relay.upstream import EJECT_AFTER, EJECT_FIRST, EJECT_MOST, PROBATION, Endpoint, Upstream

A, B, C = (Endpoint(name, f"10.0.0.{number}", 80) for number, name in enumerate("abc", 1))


def asked(route: Route, now: float = 0.0) -> str:
    return "".join(upstream.id for upstream in route.order("10.9.9.9", now))


def upstream(route: Route, name: str) -> Upstream:
    return next(upstream for upstream in route.upstreams.values() if upstream.id == name)


def eject(route: Route, name: str, now: float) -> None:
    while not route.failed(upstream(route, name), now):
        pass


def test_fixed_targets_are_asked_in_their_order_every_time() -> None:
    route = Route("test")
    route.replace([B, A, C], 0.0)
    assert [asked(route) for _ in range(3)] == ["bac"] * 3


def test_round_robin_begins_with_another_each_time() -> None:
    route = Route("test", balanced("round-robin"))
    route.replace([A, B, C], 0.0)
    assert [asked(route) for _ in range(4)] == ["abc", "bca", "cab", "abc"]


def test_an_instance_that_fails_three_times_in_a_row_is_asked_last_for_five_seconds() -> None:
    route = Route("test")
    route.replace([A, B, C], 0.0)
    assert [route.failed(upstream(route, "a"), 1.0) for _ in range(EJECT_AFTER)] == [False, False, True]
    assert asked(route, 1.0 + EJECT_FIRST - 0.1) == "bca"
    assert asked(route, 1.0 + EJECT_FIRST) == "abc"


def test_after_an_ejection_one_client_finds_out_for_all() -> None:
    """A silent instance costs one client its patience, not every client that comes within it."""
    route = Route("test")
    route.replace([A, B], 0.0)
    eject(route, "a", 0.0)
    over = upstream(route, "a").ejected_until
    assert asked(route, over) == "ab"
    assert asked(route, over) == asked(route, over + PROBATION - 0.1) == "ba"
    assert route.failed(upstream(route, "a"), over + 1.0)
    assert upstream(route, "a").ejected_until == over + 1.0 + 2 * EJECT_FIRST
    over = upstream(route, "a").ejected_until
    assert asked(route, over) == "ab"
    upstream(route, "a").answered()
    assert [asked(route, over) for _ in range(2)] == ["ab", "ab"]
    assert route.ejected(over) == set()


def test_whoever_was_given_it_and_never_said_does_not_bar_the_others_for_ever() -> None:
    route = Route("test")
    route.replace([A, B], 0.0)
    eject(route, "a", 0.0)
    over = upstream(route, "a").ejected_until
    assert asked(route, over) == "ab"
    assert asked(route, over + PROBATION) == "ab"


def test_an_answer_in_between_starts_the_count_anew() -> None:
    route = Route("test")
    route.replace([A, B], 0.0)
    for _ in range(2 * EJECT_AFTER):
        assert not route.failed(upstream(route, "a"), 0.0)
        upstream(route, "a").answered()
    assert asked(route) == "ab"


def test_each_ejection_is_twice_as_long_up_to_a_minute() -> None:
    route = Route("test")
    route.replace([A, B], 0.0)
    now, lengths = 0.0, []
    for _ in range(6):
        eject(route, "a", now)
        lengths.append(upstream(route, "a").ejected_until - now)
        now = upstream(route, "a").ejected_until
    assert lengths == [5.0, 10.0, 20.0, 40.0, EJECT_MOST, EJECT_MOST]


def test_when_all_are_ejected_ejection_is_ignored() -> None:
    route = Route("test")
    route.replace([A, B], 0.0)
    eject(route, "a", 0.0)
    eject(route, "b", 0.0)
    assert asked(route, 1.0) == "ab"


def test_an_unhealthy_instance_is_asked_last_until_it_is_well_again() -> None:
    route = Route("test", balanced("round-robin"))
    route.replace([A._replace(healthy=False), B, C], 0.0)
    assert [asked(route) for _ in range(3)] == ["bca", "bca", "cba"]
    assert {up.id for up in route.ejected(0.0)} == {"a"}
    route.replace([A, B, C], 1.0)
    assert [asked(route) for _ in range(3)] == ["abc", "bca", "cab"]
    assert route.ejected(1.0) == set()


def test_when_all_are_unhealthy_all_are_asked() -> None:
    route = Route("test")
    route.replace([A._replace(healthy=False), B._replace(healthy=False)], 0.0)
    assert asked(route) == "ab"


def test_an_answer_to_a_client_does_not_make_an_unhealthy_instance_well() -> None:
    """Whoever found it ill has to find it well: the health check knows more than that a connect worked."""
    route = Route("test")
    route.replace([A._replace(healthy=False), B], 0.0)
    upstream(route, "a").answered()
    assert asked(route) == "ba"
    assert {up.id for up in route.ejected(0.0)} == {"a"}


def test_a_draining_instance_is_not_asked() -> None:
    route = Route("test")
    route.replace([A._replace(takes_new=False), B], 0.0)
    assert asked(route) == "b"
    assert [up.id for up in route.takers] == ["b"]


def test_numbers_and_ejection_survive_a_new_snapshot() -> None:
    route = Route("test")
    route.replace([A, B], 0.0)
    upstream(route, "a").opened()
    eject(route, "a", 0.0)
    assert route.replace([A._replace(weight=5), B, C], 1.0) == []
    assert upstream(route, "a").weight == 5
    assert route.load("a") == 1
    assert asked(route, 1.0) == "bca"


def test_an_instance_with_a_new_address_has_old_numbers_and_a_clean_slate() -> None:
    route = Route("test")
    route.replace([A, B], 0.0)
    old = upstream(route, "a")
    old.opened()
    eject(route, "a", 0.0)
    assert route.replace([A._replace(port=81), B], 1.0) == [old]
    assert (old.left, upstream(route, "a").left) == (1.0, None)
    assert asked(route, 1.0) == "ab"
    assert route.traffic["a"].connections_total == 1


def test_a_removed_instance_is_forgotten_with_its_last_connection() -> None:
    route = Route("test")
    route.replace([A], 0.0)
    gone = upstream(route, "a")
    gone.opened()
    assert route.replace([], 1.0) == [gone]
    assert list(route.traffic) == ["a"]
    gone.closed()
    route.forget()
    assert list(route.traffic) == []


def test_an_instance_that_returns_while_connected_is_the_same() -> None:
    route = Route("test")
    route.replace([A], 0.0)
    same = upstream(route, "a")
    same.opened()
    route.replace([], 1.0)
    route.replace([A], 2.0)
    assert upstream(route, "a") is same
    assert same.left is None


ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from("abcd"),
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    st.just(80),
    st.integers(1, 2),
    takes_new=st.booleans(),
    healthy=st.booleans(),
)
SNAPSHOTS = st.lists(ENDPOINTS, unique_by=lambda endpoint: endpoint.id).map(tuple)


def seen(route: Route) -> set[tuple[object, ...]]:
    return {(up.id, *up.address, up.weight, up.takes_new, up.healthy, up.left) for up in route.upstreams.values()}


@given(st.lists(SNAPSHOTS, min_size=1), st.booleans())
def test_differences_lead_where_whole_snapshots_do(snapshots: list[tuple[Endpoint, ...]], connected: bool) -> None:
    told, whole = Route("told"), Route("whole")
    was: tuple[Endpoint, ...] = ()
    for now, snapshot in enumerate(snapshots):
        news = changes("told", now, was, snapshot)
        removed = {(up.id, *up.address) for up in told.change(news.put, news.removed, float(now))}
        assert removed == {(up.id, *up.address) for up in whole.replace(snapshot, float(now))}
        assert seen(told) == seen(whole)
        assert told.traffic.keys() == whole.traffic.keys() >= {endpoint.id for endpoint in snapshot}
        takers = sorted(endpoint.id for endpoint in snapshot if endpoint.takes_new)
        assert sorted(asked(told)) == sorted(asked(whole)) == takers
        assert told.ejected(0.0) == {up for up in told.upstreams.values() if not up.healthy}
        if connected and snapshot:
            upstream(told, snapshot[0].id).opened()
            upstream(whole, snapshot[0].id).opened()
        was = snapshot


def test_of_many_changes_between_two_clients_only_the_last_is_arranged() -> None:
    arranged = []

    def arrange(upstreams: Sequence[Upstream]) -> Order:
        arranged.append("".join(upstream.id for upstream in upstreams))
        return in_order(upstreams)

    route = Route("test", arrange)
    route.change([A], [], 0.0)
    route.change([B, C], [], 0.0)
    route.change([], [B[:3]], 0.0)
    assert asked(route) == asked(route) == "ac"
    assert arranged == ["ac"]
