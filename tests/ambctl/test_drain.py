"""`ambctl drain`, `undrain` and `drains`, on a real etcd."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from ambcore.errors import ConfigError
from ambcore.fleet import Drain, drain_key
from ambctl.drain import Drain as Settings
from ambctl.drain import Marking
from ambctl.verbs import read
from tests.support.etcd_cluster import EtcdCluster
from tests.support.programs import ROOT, _clean_environment

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ambctl(shared_etcd: EtcdCluster, prefix: str) -> Run:
    """Runs ambctl on services and a fleet of the test's own: one has two instances on two hosts, another one on the
    first, written by registrator.
    """
    where = {"AMB_ETCD": shared_etcd.endpoints[0], "AMB_PREFIX": f"{prefix}s/", "AMB_FLEET_PREFIX": f"{prefix}f/"}
    records = {
        "redis-A/one": '{"host": "10.0.0.1", "port": 6379, "owner": "core-01:4J2K"}',
        "redis-A/two": '{"host": "10.0.0.2", "port": 6379, "owner": "core-02:9XQ7"}',
        "web/core-01:web:80": "10.0.0.1:49153",
    }
    for name, value in records.items():
        shared_etcd.etcdctl("put", f"{prefix}s/{name}", "--", value)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ambctl", *arguments],
            cwd=ROOT,
            env={**_clean_environment(), **where},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


@pytest.mark.etcd
def test_an_instance_is_drained_listed_and_taken_back(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    done = ambctl("drain", "redis-A/one", "--why", "disk is failing")
    assert (done.returncode, done.stdout, done.stderr) == (0, "redis-A/one gets no new connections\n", "")
    stands = json.loads(shared_etcd.etcdctl("get", "--print-value-only", f"{prefix}f/drains/instances/redis-A/one"))
    assert stands["why"] == "disk is failing"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stands["since"])
    assert "@" in stands["by"]
    (listed,) = json.loads(ambctl("drains", "--json").stdout)["drains"]
    assert listed == {"service": "redis-A", "instance": "one", "instances": ["redis-A/one"], **stands}
    done = ambctl("undrain", "redis-A", "one")
    assert (done.returncode, done.stdout, done.stderr) == (0, "redis-A/one may have new connections again\n", "")
    done = ambctl("undrain", "redis-A", "one")
    assert (done.returncode, done.stderr) == (1, "ambctl: redis-A/one is not drained by an operator\n")


@pytest.mark.etcd
def test_the_last_that_takes_new_connections_goes_only_by_force(ambctl: Run) -> None:
    """A host holds all of one service, and with what is drained already all of another."""
    assert ambctl("drain", "redis-A", "two").returncode == 0
    done = ambctl("drain", "--host", "core-01")
    why = "redis-A, web would have no instance left that takes new connections"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"ambctl: {why}; --force drains it all the same\n")
    assert len(json.loads(ambctl("drains", "--json").stdout)["drains"]) == 1
    told = json.loads(ambctl("drain", "--host", "core-01", "--force", "--json").stdout)
    assert told["instances"] == ["redis-A/one", "web/core-01:web:80"]
    assert told["emptied"] == ["redis-A", "web"]
    done = ambctl("drain", "--host", "core-01", "--why", "another reason")
    assert done.returncode == 0
    assert done.stdout == "host core-01 gets no new connections: redis-A/one, web/core-01:web:80\n"
    done = ambctl("undrain", "redis-A/one")
    assert (done.returncode, done.stderr) == (1, "ambctl: redis-A/one is not drained by an operator: host core-01 is\n")


@pytest.mark.etcd
def test_a_marker_of_nobody_is_refused_and_listed_as_such(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    done = ambctl("drain", "redis-A/three")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ambctl: no instance is called redis-A/three; --force drains it all the same\n"
    assert ambctl("drains").stderr == f"ambctl: nothing is drained under {prefix}f/\n"
    shared_etcd.etcdctl("put", f"{prefix}f/drains/hosts/::ffff:10.0.0.9", "--", '{"why": "\x1b[31mred"}')
    shared_etcd.etcdctl("put", f"{prefix}f/drains/racks/7", "")
    done = ambctl("drains")
    assert done.returncode == 0
    assert "host 10.0.0.9" in done.stdout
    assert "there is no such instance" in done.stdout
    assert "drains/racks/7 drains nothing" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert ambctl("undrain", "--host", "10.0.0.9").returncode == 0
    assert ambctl("undrain", "--host", "10.0.0.9").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "SERVICE/INSTANCE: missing: name an instance, or a host by --host"),
        (("redis-A",), "SERVICE/INSTANCE: missing: name an instance, or a host by --host"),
        (("redis-A/one/more",), "SERVICE/INSTANCE: an instance has no slash"),
        (("redis-A/one", "two"), "SERVICE/INSTANCE: a service has no slash"),
        (("redis-A/one", "--host", "core-01"), "--host: it is for all instances of a host: leave out SERVICE"),
        (("--host", ""), "--host: expected a host's name, owner or address"),
        (("--host", "a b"), "--host: a host has no slash, blank or control character"),
        (("redis-A/one", "--why", "a\nb"), "--why: a reason is printable text"),
        (("redis-A/one", "--why", "a" * 501), "--why: a reason is printable text of at most 500 characters"),
    ],
)
def test_what_cannot_be_meant_is_said(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        read(["drain", *arguments], {})


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("redis-A/one",), "/ambassadors/drains/instances/redis-A/one"),
        (("redis-A", "one"), "/ambassadors/drains/instances/redis-A/one"),
        (("web", "core-01:web:80"), "/ambassadors/drains/instances/web/core-01:web:80"),
        (("--host", "core-01"), "/ambassadors/drains/hosts/core-01"),
        (("--host", "[2001:db8::1]"), "/ambassadors/drains/hosts/2001:db8::1"),
        (("--host", "2001:DB8::1"), "/ambassadors/drains/hosts/2001:db8::1"),
    ],
)
def test_what_is_typed_names_one_key(arguments: tuple[str, ...], key: str) -> None:
    for verb in ("drain", "undrain"):
        _, settings = read([verb, *arguments], {})
        assert isinstance(settings, Marking)
        assert drain_key(settings.marker) == key


def test_a_reason_stands_in_the_marker() -> None:
    _, settings = read(["drain", "redis-A/one", "--why", "disk"], dict(os.environ))
    assert isinstance(settings, Settings)
    assert settings.marker == Drain("redis-A", "one", why="disk")
