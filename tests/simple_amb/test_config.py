"""Arguments and environment of simple-amb."""

from __future__ import annotations

import pytest

from ambcore.errors import ConfigError
from simple_amb.config import Settings, read


def read_with(*argv: str, **environ: str) -> Settings:
    return read(argv, environ)


def test_one_argument_is_all_it_needs() -> None:
    settings = read_with("core-01.example:4001")
    assert settings.targets == (("core-01.example", 4001),)
    assert settings.listen == (None, 10000)
    assert (settings.drain, settings.limits.connect_timeout) == (5.0, 3.0)
    assert (settings.limits.idle_timeout, settings.limits.half_open_timeout) == (3600.0, 30.0)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("2379", (None, 2379)),
        ("127.0.0.1:2379", ("127.0.0.1", 2379)),
        ("[::1]:2379", ("::1", 2379)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
    ],
)
def test_listen_takes_a_port_or_an_address_and_a_port(text: str, listen: tuple[str | None, int]) -> None:
    assert read_with("a:1", "--listen", text).listen == listen
    assert read_with("a:1", AMB_LISTEN=text).listen == listen


def test_the_command_line_beats_the_environment() -> None:
    assert read_with("a:1", "--drain", "1", AMB_DRAIN="2").drain == 1.0
    assert read_with("a:1", AMB_DRAIN="2").drain == 2.0


def test_targets_keep_their_order_and_may_be_v6() -> None:
    assert read_with("b:2", "[2001:db8::1]:1", "a:3").targets == (("b", 2), ("2001:db8::1", 1), ("a", 3))


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
        (["a:1", "--drain", "-1"], "--drain"),
        (["a:1", "--max-connections", "0"], "--max-connections"),
        (["a:1", "--log-level", "loud"], "--log-level"),
    ],
)
def test_what_cannot_be_used_is_named(argv: list[str], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(argv, {})
    assert caught.value.option == option
