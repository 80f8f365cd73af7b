"""Registrator's command lines, as its users have them in their scripts."""

from __future__ import annotations

import pytest

from ambcore.errors import ConfigError
from ambcore.model import parse_ip
from registrar.compat import understand
from registrar.config import Settings, read, read_with_notes


@pytest.mark.parametrize(
    "line",
    [
        "-ip 10.1.2.3 -internal -ttl 30 -ttl-refresh 10 -resync 60 etcd://10.0.0.1:2379/backends",
        "--ip=10.1.2.3 --internal=true -ttl=30 --ttl-refresh=10 --resync 60 etcd://10.0.0.1:2379/backends",
        "etcd://10.0.0.1:2379/backends/ -ip 10.1.2.3 -internal -ttl 30 -resync 60 -cleanup",
        "--etcd http://10.0.0.1:2379 --prefix /backends --advertise 10.1.2.3 --internal --ttl 30 --resync 60",
        "-etcd http://10.0.0.1:2379 -prefix backends -advertise=10.1.2.3 -internal -ttl 30 -resync 60",
    ],
)
def test_pain_30_options_mean_the_same_with_one_dash_or_two_and_on_either_side_of_the_uri(line: str) -> None:
    settings = read(line.split(), {})
    assert (settings.etcd, settings.prefix) == ("http://10.0.0.1:2379", "/backends/")
    assert (settings.advertise, settings.internal, settings.explicit) == (parse_ip("10.1.2.3"), True, False)
    assert (settings.ttl, settings.resync) == (30, 60.0)
    assert settings.wish is None


def settings_of(line: str) -> Settings:
    return read(line.split(), {})


def test_a_uri_may_leave_out_what_has_a_default() -> None:
    assert (settings_of("etcd://10.0.0.1:2379").etcd, settings_of("etcd://10.0.0.1:2379").prefix) == (
        "http://10.0.0.1:2379",
        "/services/",
    )
    assert settings_of("etcd://").etcd is None
    assert settings_of("etcd:///backends").prefix == "/backends/"
    assert (
        settings_of("etcd://[2001:db8::1]:2379,10.0.0.2:2379").etcd == "http://[2001:db8::1]:2379,http://10.0.0.2:2379"
    )


def test_no_arguments_mean_every_container_with_a_lease() -> None:
    """Pain 30: records without a lease outlive their host."""
    settings = read([], {})
    assert (settings.wish, settings.ttl, settings.on_exit) == (None, 10, "keep")
    assert (settings.explicit, settings.internal, settings.tags) == (False, False, ())
    assert read(["--on-exit", "deregister"], {}).on_exit == "deregister"
    assert read([], {"AMB_ON_EXIT": "deregister"}).on_exit == "deregister"


def test_switches_may_be_off_and_tags_have_commas_of_their_own() -> None:
    assert not settings_of("-internal=false -cleanup=false").internal
    assert settings_of("-explicit").explicit
    assert read(["-tags", r"a,b\,c"], {}).tags == ("a", "b,c")
    assert read([], {"AMB_TAGS": "a,b"}).tags == ("a", "b")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-retry-attempts -1", "-retry-attempts -1: etcd is waited for"),
        ("-retry-interval=2000", "-retry-interval 2000: etcd is waited for"),
        ("-ttl 30 -ttl-refresh 10", "-ttl-refresh 10: the lease is kept alive every third"),
        ("-deregister always", "always deregistered"),
    ],
)
def test_what_is_always_so_is_accepted_and_said(line: str, said: str) -> None:
    _, notes = read_with_notes([*line.split(), "etcd://10.0.0.1:2379"], {})
    assert len(notes) == 1
    assert said in notes[0]


@pytest.mark.parametrize(
    ("line", "named", "hint"),
    [
        ("-useIpFromLabel ip", "-useIpFromLabel", "--internal"),
        ("-deregister on-success", "-deregister", "always"),
        ("-tags {{.Name}}", "-tags", "SERVICE_TAGS"),
        ("-retry-attempts often", "-retry-attempts", "number"),
        ("-ttl-refresh often", "-ttl-refresh", "number"),
        ("-internal=perhaps", "-internal", "true or false"),
        ("-ttl 0", "--ttl", "at least 1"),
        ("-resync 0", "--resync", "at least 1"),
        ("-ip 127.0.0.1", "--advertise", "cannot be told"),
        ("-no-such-option 1", "--no-such-option", "unrecognized"),
        ("-ip", "-ip", "value"),
        ("consul://localhost:8500", "consul://localhost:8500", "etcd://HOST:PORT/PREFIX"),
        ("consulkv://localhost:8500/x", "consulkv://", "etcd://"),
        ("zookeeper://localhost/x", "zookeeper://", "etcd://"),
        ("skydns2://localhost/x", "skydns2://", "etcd://"),
        ("http://localhost:2379", "http://", "--etcd"),
        ("etcd://a:1 etcd://b:1", "etcd://b:1", "one registry"),
        ("etcd://a:1 redis", "PORT", "missing"),
    ],
)
def test_pain_30_what_is_not_done_is_refused_by_name_and_never_ignored(line: str, named: str, hint: str) -> None:
    for words in (line.split(), ["etcd://10.0.0.1:2379", *line.split()]):
        if "://" in line and words[0] != line.split(maxsplit=1)[0]:
            continue
        with pytest.raises(ConfigError) as refused:
            read(words, {})
        assert named in str(refused.value)
        assert hint in str(refused.value)


def test_the_value_of_an_option_is_not_taken_for_a_uri() -> None:
    assert understand(["--docker", "unix:///tmp/docker.sock", "--etcd", "http://10.0.0.1:2379"]).argv == (
        *("--docker", "unix:///tmp/docker.sock"),
        *("--etcd", "http://10.0.0.1:2379"),
    )
