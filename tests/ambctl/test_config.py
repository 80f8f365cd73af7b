"""ambctl's arguments."""

from __future__ import annotations

import pytest

from ambcore.errors import ConfigError
from ambcore.links import Link
from ambctl.env import Env
from ambctl.ls import Ls
from ambctl.put import Put
from ambctl.rm import Rm
from ambctl.show import Show
from ambctl.verbs import read
from ambctl.watch import Watch


def record(*argv: str) -> tuple[bytes, bytes]:
    _, settings = read(["put", *argv], {})
    assert isinstance(settings, Put)
    return settings.record


def test_each_verb_has_its_settings() -> None:
    assert isinstance(read(["ls"], {})[1], Ls)
    assert isinstance(read(["show", "a"], {})[1], Show)
    assert isinstance(read(["watch"], {})[1], Watch)
    assert isinstance(read(["put", "a", "b", "10.1.2.3:80"], {})[1], Put)
    assert isinstance(read(["rm", "a", "b"], {})[1], Rm)


def test_a_record_is_written_as_docs_keys_says() -> None:
    assert record("redis-A", "one", "10.1.2.3:80") == (b"/services/redis-A/one", b'{"host": "10.1.2.3", "port": 80}')
    assert record("redis-A", "one", "[2001:db8::7]:80", "--weight", "3", "--draining", "--prefix", "p") == (
        b"/p/redis-A/one",
        b'{"host": "2001:db8::7", "port": 80, "weight": 3, "state": "draining"}',
    )


@pytest.mark.parametrize(
    ("argv", "option"),
    [
        ([], "VERB"),
        (["list"], "VERB"),
        (["ls", "redis-A"], "redis-A"),
        (["show"], "SERVICE"),
        (["show", "a/b"], "SERVICE"),
        (["watch", "a b"], "SERVICE"),
        (["put", "a"], "INSTANCE, HOST:PORT"),
        (["put", "a", "b", "redis:80"], "HOST:PORT"),
        (["put", "a", "b", "10.1.2.3"], "HOST:PORT"),
        (["put", "a", "b\n", "10.1.2.3:80"], "INSTANCE"),
        (["put", "\u00fc" * 120, "\u00fc" * 200, "10.1.2.3:80"], "INSTANCE"),
        (["put", "a", "b", "10.1.2.3:80", "--weight", "257"], "--weight"),
        (["put", "a", "b", "10.1.2.3:80", "--ttl", "0"], "--ttl"),
        (["put", "a", "b", "127.0.0.1:80"], "HOST:PORT"),
        (["put", "a", "b", "[::ffff:169.254.169.254]:80"], "HOST:PORT"),
        (["put", "a", "b", "10.1.2.3:80", "--instances-in", "10.2.0.0/16"], "HOST:PORT"),
        (["--timeout", "soon", "ls"], "--timeout"),
        (["ls", "--prefix", "/"], "--prefix"),
        (["env"], "[NAME=]SERVICE:PORT"),
        (["env", "redis-A"], "SERVICE:PORT"),
        (["env", "a:80", "b:80"], "SERVICE:PORT"),
        (["env", "redis-A:1", "redis_A:2"], "SERVICE:PORT"),
        (["env", "a:80", "--address", "here"], "--address"),
        (["env", "a:80", "--docker", "here"], "--docker"),
    ],
)
def test_what_is_wrong_is_named(argv: list[str], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(argv, {})
    assert caught.value.option == option


def test_an_address_that_proxies_refuse_needs_force() -> None:
    assert record("a", "b", "127.0.0.1:80", "--force")[1] == b'{"host": "127.0.0.1", "port": 80}'
    assert record("a", "b", "127.0.0.1:80", "--instances-in", "127.0.0.0/8")[1] == b'{"host": "127.0.0.1", "port": 80}'


def test_what_should_not_be_there_can_be_removed() -> None:
    _, settings = read(["rm", "a b", "\x1b[2J\udcff"], {})
    assert isinstance(settings, Rm)
    assert settings.key == b"/services/a b/\x1b[2J\xff"


def test_links_are_arguments_or_a_label() -> None:
    for argv in (["redis-A:6379", "db=pg:5432"], ["redis-A:6379,db=pg:5432"]):
        _, settings = read(["env", *argv], {})
        assert isinstance(settings, Env)
        assert settings.links == (Link("redis-A", 6379), Link("pg", 5432, alias="db"))
