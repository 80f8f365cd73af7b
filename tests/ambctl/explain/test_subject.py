"""What a name means, and which names resemble it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambctl.explain.subject import Names, Subject, collect, container_of, resolve
from tests.ambctl.explain.scenes import PREFIX, item, key_value, program, service

ID = "4f" * 32
VALUE = b'{"host": "10.1.2.3", "port": 80, "owner": "a", "container": "' + ID.encode() + b'"}'
RECORDS = (key_value("web/a:shop-1:80", VALUE), key_value("web/by-hand"), key_value("db/by-hand"))


def meaning(name: str, *statuses: dict[str, Any]) -> tuple[tuple[str, ...], set[str]]:
    """What a name is taken for among RECORDS, and the instances that it means."""
    found = resolve(name, collect(RECORDS, PREFIX, (), statuses))
    return found.kinds, {"/".join(key) for key in found.keys}


@pytest.mark.parametrize(
    ("name", "kinds", "keys"),
    [
        ("web", ("service",), {"web/a:shop-1:80", "web/by-hand"}),
        ("web/by-hand", ("instance",), {"web/by-hand"}),
        ("by-hand", ("instance",), {"web/by-hand", "db/by-hand"}),
        ("shop-1", ("container",), {"web/a:shop-1:80"}),
        (ID, ("container",), {"web/a:shop-1:80"}),
        (ID[:12], ("container",), {"web/a:shop-1:80"}),
        (ID[:11], (), set()),
        ("shop", (), set()),
    ],
)
def test_a_name_is_that_of_a_service_an_instance_or_a_container(
    name: str, kinds: tuple[str, ...], keys: set[str]
) -> None:
    assert meaning(name) == (kinds, keys)


def test_what_only_programs_know_is_known_too() -> None:
    """A service without records, an instance that only a proxy still has, a container without a record."""
    proxy = {"services": [service(item("old")), service(name="empty")]}
    registrar = {
        "registered": [{"container": "shop-2", "service": "web", "id": "a:shop-2:80"}],
        "not_registered": [{"container": "shut", "state": "not-published", "why": "…"}],
    }
    one = {"service": "cache", "container": {"name": "redis"}, "held": None}
    assert meaning("empty", proxy) == (("service",), set())
    assert meaning("old", proxy) == (("instance",), {"web/old"})
    assert meaning("shop-2", registrar) == (("container",), {"web/a:shop-2:80"})
    assert meaning("shut", registrar) == (("container",), set())
    assert meaning("redis", one) == (("container",), set())
    assert meaning("cache", one) == (("service",), set())
    announced = collect((), PREFIX, [program()], ())
    assert announced.services == frozenset()


def test_one_name_may_be_several_things() -> None:
    web = {"not_registered": [{"container": "web"}]}
    assert meaning("web", web) == (("service", "container"), {"web/a:shop-1:80", "web/by-hand"})


@pytest.mark.parametrize(("name", "near"), [("wbe", "web"), ("WEB", "web"), ("shop", "shop-1"), ("byhand", "by-hand")])
def test_a_name_that_is_not_there_brings_those_that_resemble_it(name: str, near: str) -> None:
    found = resolve(name, collect(RECORDS, PREFIX, (), ()))
    assert found.kinds == ()
    assert near in found.near


def test_nothing_resembles_where_nothing_is() -> None:
    assert resolve("web", Names()) == Subject("web")


def test_the_container_in_an_instances_id() -> None:
    assert [container_of(each) for each in ("a:shop:80", "a:shop:80:udp", "redis@host", "redis")] == [
        *("shop", "shop", "redis", "redis")
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["services", "name", "instances", "id", "registered", "container"]), inner)
    ),
    max_leaves=12,
)
PARTS = st.sampled_from(["services", "registered", "not_registered", "container", "held", "service"])


@given(st.dictionaries(PARTS, JSON))
def test_whatever_answers_as_a_status_breaks_nothing(status: dict[str, Any]) -> None:
    names = collect(RECORDS, PREFIX, (), [status])
    assert {"web", "db"} <= names.services
    assert resolve("web", names).kinds[0] == "service"
