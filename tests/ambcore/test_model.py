"""The values: what may exist, and in which form."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given

from ambcore.model import (
    MAX_WEIGHT,
    Address,
    Instance,
    Readiness,
    check_name,
    join_host_port,
    parse_ip,
    parse_port,
    split_host_port,
)
from tests.ambcore.strategies import addresses, instances, ports

GOOD = Instance("redis-A", "redis-demo.service", Address("10.132.181.182", 49155))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:a9fe:a9fe", "169.254.169.254"),
    ],
)
def test_an_ip_literal_has_one_form(text: str, canonical: str) -> None:
    assert str(parse_ip(text)) == canonical
    assert Address(text, 1) == Address(canonical, 1)


@pytest.mark.parametrize(
    "text", ["", "redis", "1.2.3", "010.1.2.3", "1.2.3.4/32", "fe80::1%eth0", "[::1]", " 1.2.3.4", "\u0661.2.3.4"]
)
def test_anything_but_an_ip_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ip(text)


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("80", 80), ("00080", 80), ("65535", 65535)])
def test_a_port_is_plain_digits(text: str, port: int) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize(
    "text",
    ["", "0", "00000", "65536", "-1", "+80", "8_0", " 80", "80 ", "x", "\u0668\u0660", "²", "0000080", "9" * 5000],
)
def test_any_other_port_is_refused_in_a_short_line(text: str) -> None:
    with pytest.raises(ValueError, match="a port is a number from 1 to 65535") as caught:
        parse_port(text)
    assert len(str(caught.value)) < 100


@given(addresses)
def test_an_address_reads_what_it_writes(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert split_host_port(join_host_port(address.host, address.port)) == (address.host, address.port)
    assert str(address.ip) == address.host


@given(ports)
def test_a_host_may_be_a_name_where_names_are_resolved(port: int) -> None:
    assert split_host_port(f"redis.example:{port}") == ("redis.example", port)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected HOST:PORT"),
        ("10.1.2.3", "expected HOST:PORT"),
        (":80", "expected HOST:PORT"),
        ("::1:80", "needs brackets"),
        ("[::1]", "needs brackets"),
        ("[10.1.2.3]:80", "colon|At least 3 parts|4 octets|parts expected"),
        ("10.1.2.3:http", "a port is a number"),
    ],
)
def test_a_wrong_host_and_port_is_explained(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        split_host_port(text)


@pytest.mark.parametrize("port", [0, 65536, -1, True, 80.0, "80", None])
def test_an_address_exists_with_a_real_port_only(port: Any) -> None:
    with pytest.raises(ValueError, match="a port is"):
        Address("10.1.2.3", port)


@pytest.mark.parametrize("name", ["a", "redis-A", "größe", "赤", "a#b", "x" * 128])
def test_a_name_is_any_printable_word(name: str) -> None:
    assert check_name("service", name, 128) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a/b", "a b", "a\nb", "a\x00", "\x1b[31m", "\u202ea", "\u00a0", "\ud800"]
)
def test_a_name_that_could_mislead_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a service has"):
        check_name("service", name, 128)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", ""),
        ("service", "a/b"),
        ("id", ""),
        ("id", "x" * 256),
        *(("weight", weight) for weight in (0, -1, MAX_WEIGHT + 1, True, 1.5)),
    ],
)
def test_an_instance_that_exists_is_valid(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"a service|an? instance|a weight"):
        dataclasses.replace(GOOD, **{field: value})


@given(instances())
def test_attributes_are_sorted_so_that_equal_instances_are_equal(instance: Instance) -> None:
    backwards = dataclasses.replace(instance, attributes=instance.attributes[::-1])
    assert backwards == instance
    assert hash(backwards) == hash(instance)


def test_only_an_instance_that_is_up_takes_new_connections() -> None:
    assert GOOD.takes_new
    assert not dataclasses.replace(GOOD, readiness=Readiness.DRAINING).takes_new
