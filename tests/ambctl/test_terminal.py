"""ambctl where people use it: on a terminal, with a real etcd and real proxies behind it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from ambctl.screen import ENTER, LEAVE
from tests.support.etcd_cluster import EtcdCluster
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program, _clean_environment
from tests.support.terminal import Terminal

pytestmark = pytest.mark.etcd


@dataclass(frozen=True)
class Scene:
    """Two proxies with admin servers, one of which stands for a service with an instance; a third that has none."""

    env: dict[str, str]
    fronts: tuple[int, int]

    def terminal(
        self, *arguments: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None
    ) -> Terminal:
        return Terminal("ambctl", *arguments, columns=columns, lines=lines, env={**self.env, **(env or {})})


@pytest.fixture(scope="module")
def scene(shared_etcd: EtcdCluster) -> Iterator[Scene]:
    env = {
        "AMB_ETCD": ",".join(shared_etcd.endpoints),
        "AMB_PREFIX": "/terminal/",
        "AMB_FLEET_PREFIX": "/terminal-fleet/",
        "AMB_INSTANCES_IN": "127.0.0.0/8",
    }
    fronts = free_port(), free_port()
    with NamedServer("one") as server:
        shared_etcd.etcdctl("put", "/terminal/redis-A/one", f"127.0.0.1:{server.port}")
        shared_etcd.etcdctl("put", "/terminal/redis-A/evil", "169.254.169.254:80")
        common = ("--plane", "relay", "--drain", "0")
        with (
            Program("dynproxy", "redis-A", str(fronts[0]), *common, "--admin", f":{free_port()}", env=env) as first,
            Program("dynproxy", "redis-A", str(fronts[1]), *common, "--admin", f":{free_port()}", env=env) as second,
            Program("dynproxy", "redis-A", str(free_port()), *common, env=env) as third,
        ):
            for each in (first, second, third):
                each.wait_for("announced as", 30)
            yield Scene(env, fronts)


def test_a_terminal_gets_colours_and_marks_as_wide_as_it_is(scene: Scene) -> None:
    with scene.terminal("ls", columns=40) as terminal:
        assert terminal.wait() == 0
    assert "\x1b[32m● up" in terminal.written
    assert max(map(len, terminal.text.splitlines())) <= 40
    assert "address_denied" in terminal.text


@pytest.mark.parametrize(("option", "env"), [((), {"NO_COLOR": "1"}), (("--color", "never"), {})])
def test_colours_can_be_refused(scene: Scene, option: tuple[str, ...], env: dict[str, str]) -> None:
    with scene.terminal("ls", *option, env=env) as terminal:
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.written
    assert "● up" in terminal.written


def test_top_follows_what_is_carried_and_q_leaves_the_terminal_as_it_was(scene: Scene) -> None:
    with scene.terminal("top", columns=100) as terminal:
        terminal.wait_for("NEW/s")
        assert terminal.written.startswith(ENTER)
        assert "it has no --admin" in " ".join(terminal.text.split())
        with contextlib.ExitStack() as clients:
            for front in (*scene.fronts * 3, scene.fronts[0]):
                clients.enter_context(socket.create_connection(("127.0.0.1", front), 10))
            # Seven in all, by two proxies; they tell their figures once a second.
            carried = re.compile(r"redis-A +\S 1 of 2 up +7 ")
            terminal.wait_until(lambda: bool(carried.search(terminal.text)), 30, "it shows seven connections")
        terminal.type(b"xq")
        assert terminal.wait() == 0
        assert terminal.written.endswith(LEAVE)
        assert terminal.is_as_before


def test_top_fits_a_terminal_that_becomes_narrow(scene: Scene) -> None:
    with scene.terminal("top", columns=120, lines=30) as terminal:
        terminal.wait_for("FAILED/s")
        terminal.resize(36, 5)
        terminal.wait_for("lines more")
        terminal.type(b"q")
        assert terminal.wait() == 0
    last = terminal.text[terminal.text.rindex("ambctl top") :].splitlines()
    assert len(last) <= 5
    assert max(map(len, last)) <= 36


@pytest.mark.parametrize("how", ["key", "signal"])
def test_top_that_is_interrupted_leaves_the_terminal_as_it_was(scene: Scene, how: str) -> None:
    with scene.terminal("top") as terminal:
        terminal.wait_for("redis-A")
        if how == "key":
            terminal.type(b"\x03")
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == (130 if how == "key" else 143)
        assert terminal.written.endswith(LEAVE)
        assert terminal.is_as_before


def test_top_without_etcd_is_one_line_and_no_screen(scene: Scene) -> None:
    nowhere = {"AMB_ETCD": f"http://127.0.0.1:{free_port()}"}
    with scene.terminal("top", "--timeout", "1", env=nowhere) as terminal:
        assert terminal.wait() == 3
    assert ENTER not in terminal.written
    assert terminal.text.startswith("ambctl: etcd: ")


def run(scene: Scene, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ambctl", *arguments],
        cwd=ROOT,
        env={**_clean_environment(), **scene.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_into_a_pipe_top_is_one_frame_of_plain_lines(scene: Scene) -> None:
    done = run(scene, "top")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["SERVICE", "INSTANCE", "STATE", "HOST", "OPEN", "NEW/s", "BYTES/s", "FAILED/s"]
    assert sorted(row[:3] for row in rows[1:]) == [
        ["redis-A", "-", "1/2"],
        ["redis-A", "evil", "refused"],
        ["redis-A", "one", "up"],
    ]
    assert "it has no --admin" in done.stderr


def test_top_as_json_says_who_was_asked(scene: Scene) -> None:
    document = json.loads(run(scene, "top", "--json").stdout)
    assert sorted(program["asked"] for program in document["programs"]) == [False, True, True]
    (service,) = document["services"]
    assert service["connections_per_second"] == 0.0
