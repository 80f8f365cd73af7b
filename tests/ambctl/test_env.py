"""`ambctl env` as a program, beside what Docker's `--link` really sets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ambctl import env as command
from ambctl.env import Env
from ambctl.verbs import read
from tests.support.docker_engine import Docker, unique
from tests.support.programs import ROOT, _clean_environment

NOWHERE = "unix:///nonexistent/docker.sock"


def env(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ambctl", "env", *arguments],
        cwd=ROOT,
        env=_clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_variables_of_an_address_need_neither_docker_nor_etcd() -> None:
    done = env("redis-A:6379", "--address", "10.1.2.3", "--docker", NOWHERE, "--etcd", "http://192.0.2.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "REDIS_A_PORT=tcp://10.1.2.3:6379",
        "REDIS_A_PORT_6379_TCP=tcp://10.1.2.3:6379",
        "REDIS_A_PORT_6379_TCP_ADDR=10.1.2.3",
        "REDIS_A_PORT_6379_TCP_PORT=6379",
        "REDIS_A_PORT_6379_TCP_PROTO=tcp",
    ]


def test_json_holds_the_same() -> None:
    document = json.loads(env("a:80", "--address", "10.1.2.3", "--json").stdout)
    assert document["address"] == "10.1.2.3"
    assert document["variables"]["A_PORT_80_TCP_ADDR"] == "10.1.2.3"


def test_an_unknown_address_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    done = env("a:80", "--network", "app", "--docker", f"unix://{tmp_path}/none")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("; give the address by --address\n")


async def test_without_its_daemon_the_default_bridge_is_known_by_its_interface(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "DEFAULT_INTERFACE", "lo")  # the one that every machine has
    _, settings = read(["env", "a:80", "--docker", NOWHERE], {})
    assert isinstance(settings, Env)
    assert await command.env(settings) == 0
    assert "A_PORT_80_TCP_ADDR=127.0.0.1\n" in capsys.readouterr().out


@pytest.mark.docker
def test_docker_tells_the_gateway_of_any_network(docker: Docker) -> None:
    name = unique("net")
    docker("network", "create", "--subnet", "10.213.77.0/24", name)
    try:
        assert "A_PORT_80_TCP_ADDR=10.213.77.1\n" in env("a:80", "--network", name, "--docker", docker.url).stdout
    finally:
        docker("network", "rm", name)
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    assert f"A_PORT_80_TCP_ADDR={gateway}\n" in env("a:80", "--docker", docker.url).stdout
    assert "A_PORT_80_TCP_ADDR=127.0.0.1\n" in env("a:80", "--network", "host", "--docker", docker.url).stdout


@pytest.mark.docker
def test_the_variables_are_what_docker_sets_for_a_link(docker: Docker) -> None:
    """The names, and what they hold, of a link with two TCP ports and one for datagrams."""
    target = docker.run("--expose", "6379", "--expose", "53/udp", "--expose", "53")
    linked = docker.run("--link", f"{target}:my-redis")
    address = docker.inspect(target)["NetworkSettings"]["IPAddress"]
    theirs = {line for line in docker("exec", linked, "cat", "/proc/1/environ").split("\0") if "_PORT" in line}
    ours = env("my-redis=a:6379", "my-redis=a:53/udp", "my-redis=a:53", "--address", address)
    assert set(ours.stdout.splitlines()) == theirs
