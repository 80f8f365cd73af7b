"""dynproxy restarts, by a hand-over from process to process, while strangers come at a steady rate."""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from dynproxy.ruleset import PREFIX
from tests.support.dynasty import Dynasty
from tests.support.waiting import eventually
from tests.system.kernel_hosts import Stage
from tests.system.kernel_load import Load, Outcome

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

BOTH = pytest.mark.parametrize("plane", ["kernel", "relay"])
Figure = Callable[[str], None]
# A port rests for a minute after its connection: with the usual ones 470 a second is all that a client can do.
MANY_CONNECTIONS = {"net.ipv4.ip_local_port_range": "20000 65000", "net.ipv4.tcp_tw_reuse": "1"}
AT_ONCE = 400  # strangers under way: more than come while the work changes hands


def load(stage: Stage, rate: int = 200) -> Load:
    return Load(stage.hosts.client, stage.to, rate, most=AT_ONCE)


def told(outcome: Outcome) -> str:
    failed = ", ".join(f"{count} {why}" for why, count in outcome.errors.items()) or "0 failed"
    return f"{failed} of {outcome.ended} connections, slowest {outcome.worst:.2f} s"


def restarts(stage: Stage, folder: Path, plane: str, figure: Figure, *, times: int, rate: int) -> Outcome:
    """What strangers see of so many; a connection that is open over each of them goes on."""
    for host in (stage.hosts.client, stage.hosts.proxy):
        for name, value in MANY_CONNECTIONS.items():
            host.setting(name, value)
    with Dynasty(stage, folder, plane, "--drain", "20") as dynasty, load(stage, rate) as strangers:
        began = time.monotonic()
        for _ in range(times):
            with stage.talk() as talk:
                name = talk.who()
                before = dynasty.succeed()
                assert talk.who() == name
            assert before.process.wait(60) == 0, before.log
        eventually(lambda: len(stage.answers(6)) == 3, 30)
    figure(f"{plane}, {times} hand-overs: {told(strangers.outcome)}, {rate_of(strangers.outcome, began):.0f} a second")
    return strangers.outcome


def rate_of(outcome: Outcome, began: float) -> float:
    """Connections a second: fewer than were wanted, where the machine could not."""
    return outcome.ended / (time.monotonic() - began)


@BOTH
def test_C6_hand_over_under_load(stage: Stage, tmp_path: Path, plane: str, figure: Figure) -> None:
    outcome = restarts(stage, tmp_path, plane, figure, times=3, rate=200)
    assert outcome.errors == {}


@pytest.mark.long
@BOTH
def test_C6_twenty_hand_overs_at_1000_a_second(stage: Stage, tmp_path: Path, plane: str, figure: Figure) -> None:
    outcome = restarts(stage, tmp_path, plane, figure, times=20, rate=1000)
    assert outcome.errors == {}


NOWHERE = ("--etcd", "http://127.0.0.1:9")


@BOTH
def test_C29_a_wrong_successor_leaves_the_old_one_serving(
    stage: Stage, tmp_path: Path, plane: str, figure: Figure
) -> None:
    """One with a wrong option ends with 2 and a line, and one that cannot get ready and is killed changes nothing."""
    with Dynasty(stage, tmp_path, plane) as dynasty, load(stage) as strangers:
        old, rules = dynasty.reigning, handles(stage)
        for wrong, why in (("--policy", "best"), ("--listen", stage.hosts.proxy.ipv4)):
            new = dynasty.start(wrong, why)
            assert new.process.wait(60) == 2
            assert ("PORT" if wrong == "--listen" else wrong) in new.log.splitlines()[-1]
        blind = dynasty.start(*NOWHERE)
        blind.wait_for("taking over 3 sockets", 60)
        eventually(lambda: f"process {blind.pid} has our" in old.log, 60)
        third = dynasty.start()
        assert third.process.wait(60) == 2
        assert "another process is taking over already" in third.log
        blind.kill()
        eventually(lambda: "serving on" in old.log, 60)
        assert old.process.poll() is None
        assert handles(stage) == rules
        gone, *left = stage.servers  # it is still the one that writes
        stage.delete(gone)
        old.wait_serving(stage.service, *(each.host for each in left), plane=plane, seconds=60)
        assert gone.host not in stage.answers(12)
    figure(f"{plane}, four successors that failed: {told(strangers.outcome)}")
    assert strangers.outcome.errors == {}


def handles(stage: Stage) -> list[str]:
    """The tables with the numbers that the kernel gave them when they were made."""
    return stage.hosts.proxy.output("nft", "--handle", "list", "tables").splitlines()


def test_C8_a_hand_over_leaves_the_rules_to_the_next(stage: Stage, tmp_path: Path) -> None:
    """Whatever is to become of them at an exit: they are adopted, not made anew, and have one writer."""
    with Dynasty(stage, tmp_path, "kernel", "--on-exit", "remove") as dynasty, stage.talk() as talk:
        name, rules = talk.who(), handles(stage)
        before = dynasty.succeed()
        assert before.process.wait(60) == 0
        assert handles(stage) == rules
        assert talk.who() == name
        dynasty.reigning.wait_for("goes on from 3 endpoints")
        gone, *left = stage.servers
        stage.delete(gone)
        dynasty.reigning.wait_serving(stage.service, *(each.host for each in left), seconds=60)
        assert gone.host not in stage.answers(12)
        talk.close()
        assert dynasty.reigning.stop(60) == 0
    assert PREFIX not in stage.rules()


def test_C6_one_that_is_told_to_end_gives_way_to_a_successor_that_is_not_ready(stage: Stage, tmp_path: Path) -> None:
    """Nobody else would serve. It knows no instance yet, and the kernel goes on as it did."""
    with Dynasty(stage, tmp_path, "kernel", "--on-exit", "remove") as dynasty, load(stage) as strangers:
        old = dynasty.reigning
        blind = dynasty.start(*NOWHERE)
        eventually(lambda: f"process {blind.pid} has our" in old.log, 60)
        assert old.stop(60) == 0
        blind.wait_for("goes on from 3 endpoints", 60)
        eventually(lambda: blind.service(stage.service)["plane"] == "kernel", 30)
        assert blind.status()["ready"] is False
    assert strangers.outcome.errors == {}


def test_C6_no_datagram_is_lost_in_a_hand_over(stage: Stage, tmp_path: Path, figure: Figure) -> None:
    """Clients that talk on are read by the next process, and an answer that took longer comes by the old one."""
    here = stage.hosts.instance(21)
    stage.registry.put(stage.service, "echo", here, 53, protocol="udp")
    with (
        Dynasty(stage, tmp_path, "relay", "--workers", "2", beside=["echo"]) as dynasty,
        stage.hosts.server.datagrams((here, 53)) as server,
        stage.hosts.client.datagrams((stage.hosts.client.ipv4, 0), stage.to) as slow,
        Chatter(stage, server) as chatter,
    ):
        slow.send(b"slow")
        eventually(lambda: chatter.slow is not None, 30)
        before = dynasty.reigning
        heir = dynasty.start()
        before.wait_for("the other process serves now", 60)
        assert chatter.slow is not None
        server.sendto(b"late", chatter.slow)
        assert slow.recv(100) == b"late"
        dynasty.wait_serving(heir)
        dynasty.reigning = heir
        dynasty.succeed()
    figure(f"relay, 2 hand-overs: {chatter.sent - len(chatter.answered)} of {chatter.sent} datagrams were not answered")
    assert chatter.sent > 50
    assert len(chatter.answered) == chatter.sent


class Chatter:
    """Forty clients of an echo, a hundred datagrams a second in all. `slow` is who asked for an answer that is late."""

    def __init__(self, stage: Stage, server: socket.socket) -> None:
        here = (stage.hosts.client.ipv4, 0)
        self._clients = [stage.hosts.client.datagrams(here, stage.to) for _ in range(40)]
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.answered: set[bytes] = set()
        self.slow: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        for sock in (self._server, *self._clients):
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over = True
        self._thread.join(20)
        self._selector.close()
        for client in self._clients:
            client.close()

    def _run(self) -> None:
        for client in itertools.cycle(self._clients):
            if self._over:
                break
            client.send(b"%d" % self.sent)
            self.sent += 1
            self._pass_on(0.01)
        deadline = time.monotonic() + 20
        while len(self.answered) < self.sent and time.monotonic() < deadline:
            self._pass_on(0.1)

    def _pass_on(self, seconds: float) -> None:
        """Echo what has come to the server, and take what has come back, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                data, client = sock.recvfrom(100)
                if sock is not self._server:
                    self.answered.add(data)
                elif data == b"slow":
                    self.slow = client
                else:
                    sock.sendto(data, client)
