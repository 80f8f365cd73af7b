"""Where a proxy's view and etcd's records differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.fleet import Drain, Kind
from ambcore.model import Address, Readiness
from ambctl.explain.facts import Answer
from ambctl.explain.subject import Subject
from ambctl.explain.views import differ, reached, stale
from tests.ambctl.explain.scenes import WEB, item, program, proxy, record, service
from tests.ambctl.explain.test_subject import JSON

TWO = Subject("web", ("service",), frozenset({("web", "one"), ("web", "two")}))
SINCE = "it has not heard from etcd for 3 s, and stands at revision 12: cut off"


def test_a_view_that_is_as_etcd_is_not_stale() -> None:
    assert stale(proxy(service(item())), [record()], WEB) == ()
    assert not differ([record()], [proxy(service(item()))], WEB)


@pytest.mark.parametrize(
    ("records", "instances", "says"),
    [
        ([record()], [item(address="10.9.9.9:1")], "it has one at 10.9.9.9:1, etcd has it at 10.1.2.3:80"),
        ([record()], [], "it does not have one, etcd has it at 10.1.2.3:80"),
        ([], [item()], "it has one at 10.1.2.3:80, etcd has it no more"),
        (
            [record(readiness=Readiness.DRAINING)],
            [item()],
            "it has one at 10.1.2.3:80, etcd has it at 10.1.2.3:80, draining",
        ),
        (
            [record(marker=Drain("web", "one"))],
            [item()],
            "it has one at 10.1.2.3:80, etcd has it at 10.1.2.3:80, draining",
        ),
    ],
)
def test_each_difference_is_told(records: list[Any], instances: list[dict[str, Any]], says: str) -> None:
    (told,) = stale(proxy(service(*instances)), records, WEB)
    assert told.says == f"its view is stale: {says}; {SINCE}"


@pytest.mark.parametrize(
    ("records", "more"),
    [
        ([record()], {"instances": None}),  # not known yet, which the proxy says itself
        ([record()], {"refused": [{"key": "/services/web/one", "why": "own_listener"}], "instances": []}),  # likewise
        ([record(readiness=Readiness.DRAINING)], {"instances": [item(state="ejected")]}),  # it may drain as well
        ([record("db/one")], {"instances": []}),  # another service's
        ([record("web/one")], {"name": "db", "instances": []}),
    ],
)
def test_what_has_another_reason_is_no_difference(records: list[Any], more: dict[str, Any]) -> None:
    assert stale(proxy(service(**more)), records, WEB) == ()


def test_many_differences_are_counted() -> None:
    records = [record(f"web/i{number}") for number in range(9)]
    (told,) = stale(proxy(service()), records, WEB)
    assert "; it does not have i4, etcd has it at 10.1.2.3:80, and 4 more; " in told.says


def test_registrars_and_those_that_were_not_asked_have_no_view() -> None:
    assert stale(Answer(program(Kind.REGISTRAR), status={"services": [service()]}), [record()], WEB) == ()
    assert stale(proxy(service(), why_not="no answer"), [record()], WEB) == ()


def test_an_instance_is_reached_where_a_check_says_so_of_this_very_address() -> None:
    assert reached([proxy(service(item()))], record())
    assert not reached([proxy(service(item(check="down")))], record())
    assert not reached([proxy(service(item()))], record(address=Address("10.1.2.4", 80)))
    assert not reached([proxy(service(item("two")))], record())
    assert not reached([proxy()], record())


@given(st.dictionaries(st.sampled_from(["name", "instances", "refused", "revision", "view_age", "error"]), JSON), JSON)
def test_whatever_answers_as_a_proxy_breaks_nothing(of_service: dict[str, Any], services: Any) -> None:
    whole = {**service(item(), **of_service), "name": "web", "instances": [{**item(), "address": services}]}
    for answered in ({"services": [{**of_service, "name": "web"}]}, {"services": [whole]}, {"services": services}):
        answer = Answer(program(), status=answered)
        for told in stale(answer, [record()], TWO):
            assert told.says.isprintable()
        assert reached([answer], record()) in (True, False)
