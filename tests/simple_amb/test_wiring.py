"""What variables mean, whoever set them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.errors import ConfigError
from ambcore.model import Protocol
from simple_amb.wiring import Wiring, from_environment

LINK = {  # as `docker run --link redis:redis` sets them, for an image that exposes 6379
    "REDIS_NAME": "/redis_ambassador/redis",
    "REDIS_PORT": "tcp://172.17.0.136:6379",
    "REDIS_PORT_6379_TCP": "tcp://172.17.0.136:6379",
    "REDIS_PORT_6379_TCP_ADDR": "172.17.0.136",
    "REDIS_PORT_6379_TCP_PORT": "6379",
    "REDIS_PORT_6379_TCP_PROTO": "tcp",
    "PATH": "/usr/local/sbin:/usr/bin:/bin",
}


def leads(wiring: Wiring) -> dict[str, tuple[str, int]]:
    """Each local port and its one target."""
    return {str(forward): target for forward in wiring.forwards for target in forward.targets}


def test_a_link_is_one_forward() -> None:
    assert from_environment(LINK).warnings == ()
    assert leads(from_environment(LINK)) == {"6379": ("172.17.0.136", 6379)}


def test_a_link_s_forward_knows_the_name_that_docker_keeps_up_to_date() -> None:
    """One that was given by hand over a link's has no such name, nor has what a linked container was told."""
    assert [forward.alias for forward in from_environment(LINK).forwards] == ["redis"]
    by_hand = LINK | {"REDIS_PORT_6379_TCP": "tcp://192.168.1.52:6379"}
    assert [forward.alias for forward in from_environment(by_hand).forwards] == [None]
    handed_down = {f"AMB_ENV_{name}": value for name, value in LINK.items()}
    assert [forward.alias for forward in from_environment(handed_down).forwards] == [None]


def test_a_variable_given_by_hand_may_lead_to_another_port() -> None:
    assert leads(from_environment({"REDIS_PORT_1234_TCP": "tcp://192.168.1.52:6379"})) == {
        "1234": ("192.168.1.52", 6379)
    }


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("tcp://redis.example:6379", ("redis.example", 6379)),
        ("tcp://[::1]:6379", ("::1", 6379)),
        ("tcp://[2001:DB8::1]:6379", ("2001:db8::1", 6379)),
    ],
)
def test_a_target_may_be_a_name_or_ipv6(value: str, target: tuple[str, int]) -> None:
    assert leads(from_environment({"REDIS_PORT_6379_TCP": value})) == {"6379": target}


def test_several_ports_come_in_their_order_and_udp_is_a_way_of_its_own() -> None:
    wiring = from_environment(
        {
            "WEB_PORT_8080_TCP": "tcp://10.0.0.1:80",
            "DNS_PORT_53_UDP": "udp://10.0.0.2:53",
            "DNS_PORT_53_TCP": "tcp://10.0.0.3:53",
            "my-app.v2_PORT_443_TCP": "tcp://10.0.0.4:443",
        }
    )
    assert [str(forward) for forward in wiring.forwards] == ["53", "53/udp", "443", "8080"]
    assert [forward.protocol for forward in wiring.forwards][:2] == [Protocol.TCP, Protocol.UDP]
    assert leads(wiring)["53/udp"] == ("10.0.0.2", 53)
    assert wiring.warnings == ()


def test_two_names_for_one_target_are_one_forward() -> None:
    wiring = from_environment({"A_PORT_80_TCP": "tcp://10.0.0.1:80", "B_PORT_80_TCP": "tcp://10.0.0.1:80"})
    assert leads(wiring) == {"80": ("10.0.0.1", 80)}
    assert wiring.warnings == ()


def test_of_different_targets_for_one_port_the_first_by_name_is_used_and_both_are_named() -> None:
    wiring = from_environment({"B_PORT_80_TCP": "tcp://10.0.0.2:80", "A_PORT_80_TCP": "tcp://10.0.0.1:80"})
    assert leads(wiring) == {"80": ("10.0.0.1", 80)}
    assert wiring.warnings == ("A_PORT_80_TCP and B_PORT_80_TCP name different targets; A_PORT_80_TCP is used",)


def test_what_the_linked_container_was_told_itself_yields_to_what_we_were_told() -> None:
    """An ambassador linked to an ambassador finds the other's own variable as well, and means the ambassador."""
    handed_down = {"AMB_ENV_REDIS_PORT_6379_TCP": "tcp://192.168.1.52:6379"}
    wiring = from_environment(LINK | handed_down)
    assert leads(wiring) == {"6379": ("172.17.0.136", 6379)}
    assert wiring.warnings == ()
    assert leads(from_environment(handed_down)) == {"6379": ("192.168.1.52", 6379)}


def test_a_broken_variable_of_the_linked_container_is_not_our_failure() -> None:
    wiring = from_environment(LINK | {"REDIS_ENV_DB_PORT_5432_TCP": "none"})
    assert leads(wiring) == {"6379": ("172.17.0.136", 6379)}
    assert wiring.warnings == ("REDIS_ENV_DB_PORT_5432_TCP: expected tcp://HOST:PORT, not 'none'; passed over",)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("A_PORT_80_TCP", "10.0.0.1:80", "expected tcp://HOST:PORT"),
        ("A_PORT_80_TCP", "udp://10.0.0.1:80", "expected tcp://HOST:PORT"),
        ("A_PORT_80_UDP", "tcp://10.0.0.1:80", "expected udp://HOST:PORT"),
        ("A_PORT_80_TCP", "tcp://10.0.0.1", "expected HOST:PORT"),
        ("A_PORT_80_TCP", "tcp://:80", "expected HOST:PORT"),
        ("A_PORT_80_TCP", "tcp://::1:80", "needs brackets"),
        ("A_PORT_80_TCP", "tcp://10.0.0.1:http", "a port is"),
        ("A_PORT_80_TCP", "tcp://10.0.0.1:80/", "a port is"),
        ("A_PORT_80_TCP", "tcp://10.0.0.1:65536", "a port is"),
        ("A_PORT_0_TCP", "tcp://10.0.0.1:80", "a port is"),
        ("A_PORT_70000_TCP", "tcp://10.0.0.1:80", "a port is"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(variable: str, value: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        from_environment(LINK | {variable: value})
    assert caught.value.option == variable


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"REDIS_PORT": "tcp://10.0.0.1:80", "REDIS_PORT_6379_TCP_ADDR": "10.0.0.1"},
        {"REDIS_PORT_6379_TCP": ""},
        {"REDIS_PORT_X_TCP": "tcp://10.0.0.1:80"},
    ],
)
def test_without_any_the_message_says_what_to_set(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"REDIS_PORT_6379_TCP=tcp://HOST:PORT") as caught:
        from_environment(environ)
    assert caught.value.option == "HOST:PORT"


NAMES = st.from_regex(r"(A|B|A_ENV_B)_PORT_(1|80|65535|65536)_(TCP|UDP|tcp)", fullmatch=True)
ADDRESSES = st.from_regex(r"(tcp|udp)://(a|10\.0\.0\.1|\[::1\]|::1|):(1|0|80|)", fullmatch=True)
VALUES = ADDRESSES | st.text(max_size=9)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_any_environment_gives_each_port_one_target_or_one_complaint(environ: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        wiring = from_environment(environ)
        ways = [(forward.port, forward.protocol) for forward in wiring.forwards]
        assert ways == sorted(set(ways))
        for forward in wiring.forwards:
            assert 1 <= forward.port <= 65535
            ((host, port),) = forward.targets
            assert host
            assert 1 <= port <= 65535
