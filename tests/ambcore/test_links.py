"""A link's text, its variables, and what is refused."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.links import MAX_LINKS, Link, parse_links, variables
from ambcore.model import Protocol
from tests.ambcore.strategies import ports, texts

UDP = Protocol.UDP
HOST = "172.17.0.1"

aliases = st.none() | st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
services = st.text(st.sampled_from("abcXYZ019.-_:é"), min_size=1, max_size=12)
links = st.builds(Link, services, ports, st.sampled_from(Protocol), aliases)
labels = st.lists(links, min_size=1, max_size=8, unique_by=lambda link: (link.port, link.protocol)).map(tuple)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("redis-A:6379", [Link("redis-A", 6379)]),
        (" redis-A:6379 ,\n pg:5432", [Link("redis-A", 6379), Link("pg", 5432)]),
        ("cache=redis-A:6379", [Link("redis-A", 6379, alias="cache")]),
        ("dns:53/udp,dns:53/tcp", [Link("dns", 53, UDP), Link("dns", 53)]),
        ("a:b:80", [Link("a:b", 80)]),
        ("x=a=b:80", [Link("a=b", 80, alias="x")]),
        ("a:1,x=a:1", [Link("a", 1), Link("a", 1, alias="x")]),
    ],
)
def test_a_label_names_services_and_ports(text: str, meant: list[Link]) -> None:
    assert list(parse_links(text)) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected SERVICE:PORT or ALIAS=SERVICE:PORT, not ''"),
        ("redis-A", "not 'redis-A'"),
        ("a:1,", "not ''"),
        (":1", "not ':1'"),
        ("a:0", "a port is a number from 1 to 65535, not '0'"),
        ("a:٣", "a port is a number"),
        ("a:1/sctp", "expected /tcp or /udp behind the port, not 'sctp'"),
        ("a:1/", "expected /tcp or /udp behind the port, not ''"),
        ("=a:1", "an alias is"),
        ("1=a:1", "an alias is"),
        ("a b=c:1", "an alias is"),
        ("a b:1", "a service has no slash, blank or control character"),
        ("a/b:1", "a service has no slash"),
        (f"{'x' * 129}:1", "a service has 1 to 128 characters"),
        ("a:1,b:1", "port 1 cannot lead to both a and b"),
        ("a:1,a:1", "a:1 is there twice"),
        (",".join(f"a:{port}" for port in range(1, MAX_LINKS + 2)), f"{MAX_LINKS + 1} links are more than {MAX_LINKS}"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as refusal:
        parse_links(text)
    assert len(str(refusal.value)) < 250


@given(labels)
def test_links_read_back_as_they_are_written(label: tuple[Link, ...]) -> None:
    assert parse_links(",".join(map(str, label))) == label


@given(st.lists(texts | st.sampled_from(["a:1", "b=a:2", "/udp"]), max_size=5).map(",".join))
def test_any_text_is_links_or_a_reason(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_links(text)


def test_the_variables_are_those_of_dockers_link() -> None:
    assert variables(parse_links("redis-A:6379"), HOST) == {
        "REDIS_A_PORT": "tcp://172.17.0.1:6379",
        "REDIS_A_PORT_6379_TCP": "tcp://172.17.0.1:6379",
        "REDIS_A_PORT_6379_TCP_ADDR": "172.17.0.1",
        "REDIS_A_PORT_6379_TCP_PORT": "6379",
        "REDIS_A_PORT_6379_TCP_PROTO": "tcp",
    }


def test_the_bare_variable_is_the_lowest_ports_tcp_first() -> None:
    found = variables(parse_links("dns:5353,dns:53/udp,dns:53"), HOST)
    assert found["DNS_PORT"] == "tcp://172.17.0.1:53"
    assert found["DNS_PORT_53_UDP_PROTO"] == "udp"
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("text", "name"),
    [("redis.a-b:1", "REDIS_A_B"), ("cache-1=redis-A:1", "CACHE_1"), ("élan:1", "_LAN"), ("straße:1", "STRASSE")],
)
def test_a_name_becomes_a_variables_name(text: str, name: str) -> None:
    assert parse_links(text)[0].variable == name


def test_an_ipv6_address_stands_in_brackets_in_the_url_alone() -> None:
    found = variables(parse_links("a:1"), "fd00::1")
    assert (found["A_PORT"], found["A_PORT_1_TCP_ADDR"]) == ("tcp://[fd00::1]:1", "fd00::1")


@pytest.mark.parametrize("text", ["redis-A:1,redis_A:2", "x=a:1,x=b:2", "a:80,A_PORT_80_TCP=b:81"])
def test_one_name_for_two_services_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match="give one another name, ALIAS="):
        variables(parse_links(text), HOST)


@given(labels)
def test_variables_fit_an_env_file_and_say_each_port(label: tuple[Link, ...]) -> None:
    try:
        found = variables(label, HOST)
    except ValueError:
        return
    assert all(re.fullmatch(r"[A-Z0-9_]+", name) for name in found)
    for link in label:
        key = f"{link.variable}_PORT_{link.port}_{link.protocol.upper()}"
        assert found[key] == f"{link.protocol}://{HOST}:{link.port}"
