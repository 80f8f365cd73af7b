"""Arguments and environment of simple-amb."""

from __future__ import annotations

import pytest

from ambcore.errors import ConfigError
from ambcore.model import Protocol
from simple_amb.config import Settings, read
from simple_amb.wiring import Forward


def read_with(*argv: str, **environ: str) -> Settings:
    return read(argv, environ)[0]


def forwards(*argv: str, **environ: str) -> tuple[Forward, ...]:
    return read(argv, environ)[1].forwards


def test_one_argument_is_all_it_needs() -> None:
    settings = read_with("core-01.example:4001")
    assert forwards("core-01.example:4001") == (Forward(10000, Protocol.TCP, (("core-01.example", 4001),)),)
    assert settings.listen.host is None
    assert (settings.drain, settings.limits.connect_timeout) == (5.0, 3.0)
    assert (settings.limits.idle_timeout, settings.limits.half_open_timeout) == (0.0, 30.0)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("2379", (None, 2379)),
        ("127.0.0.1:2379", ("127.0.0.1", 2379)),
        ("[::1]:2379", ("::1", 2379)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("10.0.0.1", ("10.0.0.1", 10000)),
        ("[::1]", ("::1", 10000)),
    ],
)
def test_listen_takes_a_port_an_address_or_both(text: str, listen: tuple[str | None, int]) -> None:
    for argv, environ in ((["--listen", text], {}), ([], {"AMB_LISTEN": text})):
        settings, wiring = read(["a:1", *argv], environ)
        assert (settings.listen.host, wiring.forwards[0].port) == listen


def test_without_arguments_the_environment_names_the_ports_and_listen_an_address() -> None:
    variables = {"A_PORT_80_TCP": "tcp://a:1", "B_PORT_81_TCP": "tcp://b:2"}
    settings, wiring = read(["--listen", "[::1]"], variables)
    assert settings.listen == ("::1", None)
    assert [(forward.port, forward.targets) for forward in wiring.forwards] == [(80, (("a", 1),)), (81, (("b", 2),))]


def test_with_arguments_the_environment_is_not_read() -> None:
    assert forwards("a:1", A_PORT_80_TCP="nonsense") == forwards("a:1")


def test_the_command_line_beats_the_environment() -> None:
    assert read_with("a:1", "--drain", "1", AMB_DRAIN="2").drain == 1.0
    assert read_with("a:1", AMB_DRAIN="2").drain == 2.0


def test_targets_keep_their_order_and_may_be_v6() -> None:
    (forward,) = forwards("b:2", "[2001:db8::1]:1", "a:3")
    assert forward.targets == (("b", 2), ("2001:db8::1", 1), ("a", 3))


@pytest.mark.parametrize(
    ("argv", "option"),
    [
        ([], "HOST:PORT"),
        (["redis"], "HOST:PORT"),
        (["redis:"], "HOST:PORT"),
        (["redis:0"], "HOST:PORT"),
        (["redis:65536"], "HOST:PORT"),
        ([":80"], "HOST:PORT"),
        (["::1:80"], "HOST:PORT"),
        (["a:1", "--listen", "x"], "--listen"),
        (["a:1", "--listen", "localhost:80"], "--listen"),
        (["a:1", "--listen", "::1"], "--listen"),
        (["a:1", "--drain", "-1"], "--drain"),
        (["a:1", "--max-connections", "0"], "--max-connections"),
        (["a:1", "--log-level", "loud"], "--log-level"),
    ],
)
def test_what_cannot_be_used_is_named(argv: list[str], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(argv, {})
    assert caught.value.option == option


@pytest.mark.parametrize("listen", ["80", "127.0.0.1:80"])
def test_a_port_to_listen_on_beside_ports_from_the_environment_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(["--listen", listen], {"A_PORT_80_TCP": "tcp://a:1"})
    assert caught.value.option == "--listen"
