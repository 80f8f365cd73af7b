"""registrar's options: what is accepted, and what an error looks like."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ambcore.errors import ConfigError
from ambcore.model import parse_ip
from ambcore.registration.extract import Wish
from registrar.config import read
from tests.support.programs import ROOT

GOOD = ["redis-demo.service", "6379", "redis-A"]


def test_three_arguments_are_enough() -> None:
    settings = read(GOOD, {})
    assert settings.wish == Wish("redis-demo.service", 6379, "redis-A")
    assert settings.docker == "unix:///var/run/docker.sock"
    assert (settings.ttl, settings.resync, settings.on_exit) == (10, 30.0, "deregister")
    assert (settings.advertise, settings.host_id, settings.admin) == (None, None, None)
    assert settings.prefix == "/services/"


@pytest.mark.parametrize(
    ("option", "variable", "field", "text", "value"),
    [
        ("--docker", "DOCKER_HOST", "docker", "tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376"),
        ("--advertise", "AMB_ADVERTISE", "advertise", "10.1.2.3", parse_ip("10.1.2.3")),
        ("--advertise", "COREOS_PRIVATE_IPV4", "advertise", "2001:db8::7", parse_ip("2001:db8::7")),
        ("--ttl", "AMB_TTL", "ttl", "5", 5),
        ("--host-id", "AMB_HOST_ID", "host_id", "host-a", "host-a"),
        ("--on-exit", "AMB_ON_EXIT", "on_exit", "keep", "keep"),
        ("--resync", "AMB_RESYNC", "resync", "2.5", 2.5),
        ("--admin", "AMB_ADMIN", "admin", "127.0.0.1:9401", ("127.0.0.1", 9401)),
        ("--prefix", "AMB_PREFIX", "prefix", "/x", "/x/"),
    ],
)
def test_each_option_comes_from_the_command_line_or_the_environment(
    option: str, variable: str, field: str, text: str, value: object
) -> None:
    assert getattr(read([*GOOD, option, text], {}), field) == value
    assert getattr(read(GOOD, {variable: text}), field) == value


def test_the_command_line_beats_the_environment_and_ours_beats_coreos() -> None:
    both = {"AMB_ADVERTISE": "10.0.0.2", "COREOS_PRIVATE_IPV4": "10.0.0.3"}
    assert str(read(GOOD, both).advertise) == "10.0.0.2"
    assert str(read([*GOOD, "--advertise", "10.0.0.1"], both).advertise) == "10.0.0.1"


BAD = [
    (["redis"], {}, "PORT"),
    (["redis", "6379"], {}, "SERVICE"),
    (["a/b", "6379", "s"], {}, "CONTAINER"),
    (["", "6379", "s"], {}, "CONTAINER"),
    (["redis", "0", "s"], {}, "PORT"),
    (["redis", "65536", "s"], {}, "PORT"),
    (["redis", "redis", "s"], {}, "PORT"),
    (["redis", "6379", "a/b"], {}, "SERVICE"),
    (["redis", "6379", "s", "more"], {}, "arguments"),
    ([*GOOD, "--internal"], {}, "--internal"),
    ([*GOOD, "--explicit"], {}, "--explicit"),
    ([*GOOD, "--tags", "a"], {}, "--tags"),
    ([*GOOD, "etcd://10.0.0.1:2379"], {}, "CONTAINER"),
    (["--network", "n"], {}, "--network"),
    (["--tags", "a\n"], {}, "--tags"),
    ([*GOOD, "--no-such-option"], {}, "--no-such-option"),
    ([*GOOD, "--advertise", "127.0.0.1"], {}, "--advertise"),
    ([*GOOD, "--advertise", "0.0.0.0"], {}, "--advertise"),  # noqa: S104
    ([*GOOD, "--advertise", "::1"], {}, "--advertise"),
    ([*GOOD, "--advertise", "169.254.1.1"], {}, "--advertise"),
    ([*GOOD, "--advertise", "myhost"], {}, "--advertise"),
    (GOOD, {"AMB_ADVERTISE": "127.0.0.1"}, "AMB_ADVERTISE"),
    (GOOD, {"COREOS_PRIVATE_IPV4": "127.0.0.1"}, "COREOS_PRIVATE_IPV4"),
    ([*GOOD, "--ttl", "0"], {}, "--ttl"),
    ([*GOOD, "--docker", "/var/run/docker.sock"], {}, "--docker"),
    ([*GOOD, "--docker", "unix://"], {}, "--docker"),
    (GOOD, {"DOCKER_HOST": "ssh://root@host"}, "DOCKER_HOST"),
    ([*GOOD, "--ttl", "soon"], {}, "--ttl"),
    ([*GOOD, "--resync", "0"], {}, "--resync"),
    ([*GOOD, "--on-exit", "explode"], {}, "--on-exit"),
    ([*GOOD, "--host-id", "a b"], {}, "--host-id"),
    ([*GOOD, "--admin", "nowhere"], {}, "--admin"),
    ([*GOOD, "--log-level", "loud"], {}, "--log-level"),
]


@pytest.mark.parametrize(("argv", "environ", "named"), BAD)
def test_what_cannot_be_used_is_refused_by_name(argv: list[str], environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(argv, environ)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["redis", "0", "s"], "PORT"),
        ([*GOOD, "--advertise", "127.0.0.1"], "--advertise"),
        ([*GOOD, "--etcd", "ftp://10.0.0.1"], "--etcd"),
        ([*GOOD, "--docker", "nonsense://x"], "--docker"),
        ([*GOOD, "--admin", "192.0.2.250:1"], "--admin"),
    ],
)
def test_a_bad_argument_ends_the_program_with_2_and_one_line(argv: list[str], named: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "registrar", *argv], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith("registrar: ")
    assert named in last
    assert "Traceback" not in done.stderr
