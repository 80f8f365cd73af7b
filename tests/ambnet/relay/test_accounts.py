"""What a worker tells of its instances each second: what changed, and with the rest it makes a whole."""

from __future__ import annotations

from ambnet.relay.accounts import Accounts
from ambnet.relay.protocol import InstanceStats, ServiceStats, Stats, merge
from ambnet.relay.route import Route
from ambnet.relay.upstream import EJECT_AFTER, EJECT_FIRST, Endpoint, Upstream

A, B = Endpoint("a", "10.0.0.1", 80), Endpoint("b", "10.0.0.2", 80)


def upstream(route: Route, endpoint: Endpoint) -> Upstream:
    return route.upstreams[endpoint[:3]]


def test_only_what_changed_is_told() -> None:
    route = Route("test")
    accounts = Accounts(route)
    route.replace([A, B], 0.0)
    assert set(accounts.news(0.0, 0).instances) == {"a", "b"}
    assert accounts.news(1.0, 0).instances == {}
    upstream(route, A).opened()
    assert accounts.news(2.0, 0).instances == {"a": InstanceStats(connections=1, connections_total=1)}
    assert accounts.news(3.0, 0).instances == {}


def test_the_end_of_an_ejection_is_news() -> None:
    route = Route("test")
    accounts = Accounts(route)
    route.replace([A, B], 0.0)
    for _ in range(EJECT_AFTER):
        route.failed(upstream(route, A), 0.0)
    assert accounts.news(0.0, 0).instances["a"].ejected
    assert accounts.news(EJECT_FIRST - 0.1, 0).instances == {}
    assert not accounts.news(EJECT_FIRST, 0).instances["a"].ejected


def test_a_removed_instance_is_to_be_forgotten_once_its_last_connection_has_ended() -> None:
    route = Route("test")
    accounts = Accounts(route)
    route.replace([A, B], 0.0)
    upstream(route, A).opened()
    accounts.news(0.0, 0)
    leaving = upstream(route, A)
    route.replace([], 1.0)
    assert accounts.news(1.0, 0).gone == ("b",)
    leaving.closed()
    assert accounts.news(2.0, 0).gone == ("a",)
    assert accounts.news(3.0, 0).gone == ()


def test_differences_add_up_to_the_whole() -> None:
    one, two = InstanceStats(1, 1), InstanceStats(2, 2)
    whole = merge(Stats(0, {}), Stats(1, {"s": ServiceStats(1, {"accepted": 1}, {"a": one, "b": one})}))
    whole = merge(whole, Stats(2, {"s": ServiceStats(0, {"accepted": 2}, {"a": two}, ("b",))}))
    assert whole == Stats(2, {"s": ServiceStats(0, {"accepted": 2}, {"a": two})})
