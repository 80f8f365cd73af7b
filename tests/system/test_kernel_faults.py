"""Named faults on the kernel plane, and those that both planes answer alike."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from dynproxy.ruleset import PREFIX
from tests.support.answering import Datagrams
from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Stage, Talk, answered_by
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

BOTH = pytest.mark.parametrize("plane", ["kernel", "relay"])
NOBODY = "10.78.9.9"  # an address of the server's where nothing listens
RATE = 200


def load(stage: Stage, rate: int = RATE) -> Load:
    return Load(stage.hosts.client, stage.to, rate)


def swallow(stage: Stage, host: str) -> None:
    """Have a server's new connections dropped on its own host."""
    stage.hosts.server.nft(
        "add table ip hole\nadd chain ip hole input { type filter hook input priority 0; }\n"
        f"add rule ip hole input ip daddr {host} tcp flags & (syn | ack) == syn drop\n"
    )


@BOTH
def test_C1_backend_kill(stage: Stage, figure: Figure, plane: str) -> None:
    """SIGKILL of one of three under load, nobody tells the registry: what was in flight there fails, nothing new."""
    with stage.serving(*stage.servers, plane=plane), load(stage) as clients:
        time.sleep(1)
        stage.servers[0].kill()
        time.sleep(2)
    assert clients.outcome.ended > 2.5 * RATE
    failed = sum(clients.outcome.errors.values())
    figure(f"{plane}: {failed} of {clients.outcome.ended} connections failed, as many as were open at the instance")
    assert failed <= 10, clients.outcome  # a busy machine has more open at once; new ones would be hundreds


@pytest.mark.parametrize("control", ["alive", "killed"])
def test_C2_backend_refuses(stage: Stage, figure: Figure, control: str) -> None:
    """A stale record of a closed port: no client error; one client waits a second for each time it is tried."""
    options = () if control == "alive" else ("--check-interval", "0")  # so that no check is first
    stage.registry.put(stage.service, "stale", NOBODY)
    stage.put(stage.servers[0])
    with stage.proxy("--plane", "kernel", *options) as proxy:
        proxy.wait_serving(stage.service, stage.servers[0].host, "stale")
        if control == "killed":
            proxy.kill()
        with load(stage) as clients:
            time.sleep(3)
        assert clients.outcome.errors == {}
        assert clients.outcome.ended > 2.5 * RATE
        assert len(clients.outcome.slow) <= 4, "one in a hundred noticed it"
        figure(
            f"kernel, dynproxy {control}: 0 of {clients.outcome.ended} failed, {len(clients.outcome.slow)} waited 1 s"
        )
        if control == "killed":
            assert clients.outcome.slow, "nobody came to the closed port"
        else:
            assert proxy.instance(stage.service, "stale")["state"] == "ejected"
            assert stage.answers(4) == {stage.servers[0].host}


@BOTH
def test_C3_backend_blackhole(stage: Stage, figure: Figure, plane: str) -> None:
    """SYNs to one of three vanish: no client error, and after 3 s nobody notices it any more."""
    with stage.serving(*stage.servers, plane=plane) as proxy, load(stage) as clients:
        time.sleep(1)
        swallow(stage, stage.servers[0].host)
        dropped = time.monotonic()
        time.sleep(5)
        assert proxy.instance(stage.service, stage.servers[0].host)["state"] == "ejected"
    assert clients.outcome.errors == {}
    outcome = clients.outcome
    figure(f"{plane}: 0 of {outcome.ended} failed, {len(outcome.slow)} waited, the longest for {outcome.worst:.1f} s")
    assert clients.outcome.slow, "nobody came to the hole"
    assert max(clients.outcome.slow) - dropped < 3
    assert clients.outcome.worst < 1 + 3


@BOTH
def test_C5_rolling_replace(stage: Stage, figure: Figure, plane: str) -> None:
    """Every instance is drained, removed and replaced in turn under load: no error, and what is open finishes."""
    one, two, three = stage.servers
    with stage.serving(one, two, plane=plane) as proxy, load(stage) as clients:
        for old, new in ((one, three), (two, one)):
            with ExitStack() as stack:
                talks = [stack.enter_context(stage.talk()) for _ in range(4)]
                mine = [talk for talk in talks if talk.who() == old.host]
                assert mine
                stage.put(new)
                stage.put(old, state="draining")
                eventually(partial(shows, proxy, stage, old.host, "draining"))
                stage.delete(old)
                eventually(partial(shows, proxy, stage, old.host, None))
                assert {talk.who() for talk in mine} == {old.host}
            time.sleep(0.3)  # the load's own last connections to it end
            old.kill()
            old.start()
        time.sleep(0.5)
    assert clients.outcome.errors == {}
    assert clients.outcome.slow == []
    figure(f"{plane}: 0 of {clients.outcome.ended} failed while both instances were replaced")


def shows(proxy: KernelProxy, stage: Stage, name: str, state: str | None) -> bool:
    """Whether the status document says this of an instance; None: that there is none."""
    return {item["id"]: item["state"] for item in proxy.service(stage.service)["instances"]}.get(name) == state


@BOTH
def test_C7_sigterm_drain(stage: Stage, figure: Figure, plane: str) -> None:
    """100 long connections: none is cut while it lasts, none is accepted any more, and the last to end ends us."""
    with ExitStack() as stack:
        options = ("--on-exit", "remove", "--drain", "20")
        proxy = stack.enter_context(stage.serving(*stage.servers, options=options, plane=plane))
        talks = [stack.enter_context(stage.talk()) for _ in range(100)]
        names = [talk.who() for talk in talks]
        proxy.signal(signal.SIGTERM)
        eventually(lambda: refused(stage), 5, "no new connection is accepted")
        assert [talk.who() for talk in talks] == names
        stage.registry.put(stage.service, "late", stage.servers[0].host)
        time.sleep(0.5)  # long enough to write a rule for it, which must not be
        assert refused(stage)
        assert proxy.process.poll() is None
        for talk in talks:
            talk.close()
        ended = time.monotonic()
        assert proxy.process.wait(30) == 0
    figure(f"{plane}: 100 long connections finished, then exit code 0 within {time.monotonic() - ended:.1f} s")
    assert PREFIX not in stage.rules()


@BOTH
def test_C7_drain_ends_at_its_deadline(stage: Stage, plane: str) -> None:
    options = ("--on-exit", "remove", "--drain", "1.5")
    with stage.serving(stage.servers[0], options=options, plane=plane) as proxy, stage.talk() as talk:
        assert talk.who()
        started = time.monotonic()
        assert proxy.stop() == 0
        assert 1.4 < time.monotonic() - started < 6
        with pytest.raises(ConnectionResetError):
            talk.who()
    assert PREFIX not in stage.rules()


def refused(stage: Stage) -> bool:
    try:
        stage.talk().close()
    except ConnectionRefusedError:
        return True
    return False


def test_C7_keep_leaves_the_rules_and_they_serve(stage: Stage) -> None:
    options = ("--on-exit", "keep")
    with stage.serving(*stage.servers, options=options) as proxy, stage.talk() as talk, load(stage) as clients:
        name = talk.who()
        started = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - started < 5
        time.sleep(1)
        assert talk.who() == name
        assert len(stage.answers(6)) == 3
    assert clients.outcome.errors == {}


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_C8_crash_with_offload(stage: Stage, figure: Figure, seconds: int) -> None:
    """SIGKILL of dynproxy and of its relay under load: no client notices, nor of the next one's taking over."""
    with ExitStack() as stack:
        first = stack.enter_context(stage.serving(*stage.servers))
        talk = stack.enter_context(stage.talk())
        name, handles = talk.who(), table_handles(stage)
        with load(stage) as clients:
            workers = first.status()["plane"]["processes"]
            first.kill()
            for worker in workers:
                eventually(partial(ended, worker), 10, "the relay ends with its parent")
            time.sleep(seconds)
            second = stack.enter_context(stage.proxy("--plane", "kernel"))
            second.wait_serving(stage.service, *(each.host for each in stage.servers))
            time.sleep(2)
        assert clients.outcome.errors == {}
        assert clients.outcome.slow == []
        assert clients.outcome.ended > RATE * seconds / 2, "the machine is too slow for this to show anything"
        assert talk.who() == name
        assert table_handles(stage) == handles, "the table was made anew"
        second.wait_for("goes on from 3 endpoints")
        figure(
            f"{seconds} s without dynproxy: 0 of {clients.outcome.ended} failed, slowest {clients.outcome.worst:.2f} s"
        )
        stage.servers[0].kill()  # the new one is in charge
        stage.delete(stage.servers[0])
        second.wait_serving(stage.service, *(each.host for each in stage.servers[1:]))
        assert stage.answers(4) == {each.host for each in stage.servers[1:]}


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def table_handles(stage: Stage) -> list[str]:
    """The tables with the numbers that the kernel gave them when they were made."""
    return stage.hosts.proxy.output("nft", "--handle", "list", "tables").splitlines()


# The last two take the translation of open connections away as well, if no other table of the kernel translates.
HARM = (
    "delete element ip {table} {port}_slots {{ 0 }}",
    "delete element ip {table} fronts {{ tcp . {number} }}",
    "insert rule ip {table} {port} drop",
    "flush table ip {table}",
    "delete table ip {table}",
    "flush ruleset",
)


def test_C9_nft_flushed_by_other(stage: Stage, figure: Figure) -> None:
    """Whatever others do to our rules is repaired within 10 s; until then the relay serves who finds no rule."""
    names = {"table": f"{PREFIX}{stage.port}", "port": f"tcp_{stage.port}", "number": stage.port}
    ended = failed = 0
    with stage.serving(*stage.servers) as proxy, stage.talk() as talk:
        name, written = talk.who(), without_counts(stage)
        for repairs, harm in enumerate(HARM, 1):
            transactions = proxy.kernel()["transactions"]
            with load(stage, 50) as clients:
                stage.hosts.proxy.nft(harm.format(**names) + "\n")
                assert without_counts(stage) != written
                eventually(lambda: without_counts(stage) == written, 10, f"repaired after {harm}")
            eventually(lambda: proxy.kernel()["error"] is None)
            shown = proxy.kernel()
            assert (shown["repairs"], shown["transactions"]) == (repairs, transactions + 1)
            eventually(lambda: len(stage.answers(6)) == 3, what="all three are asked")
            lost = sum(clients.outcome.errors.values())
            if repairs <= 4:
                assert talk.who() == name, "the repair itself cut a connection"
            # On a busy machine one is open in the instant in which the translation goes.
            assert lost <= (0 if repairs <= 4 else 2), clients.outcome
            ended, failed = ended + clients.outcome.ended, failed + lost
    figure(f"{len(HARM)} kinds of harm repaired, {failed} of {ended} connections failed")


@pytest.mark.parametrize("former", ["ended", "open"])
def test_C9_what_the_relay_took_meanwhile_goes_on_where_former_clients_had_its_ports(stage: Stage, former: str) -> None:
    """Nothing is tracked while there are no rules. When there are, each of the relay's connections to the instance has
    the port of a client that the kernel took there before, and it keeps that port nevertheless.
    """
    client, proxy, server = stage.hosts.client, stage.hosts.proxy, stage.servers[0]
    ports = range(65100, 65200)  # beyond those that clients have by themselves, in whichever test
    everything = proxy.call(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text)
    with stage.serving(server), ExitStack() as stay:
        for port in ports:
            before = client.call(socket.socket)
            before.settimeout(10)
            before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # this test may have run a minute ago
            before.bind((client.ipv4, port))
            before.connect(stage.to)
            before.sendall(b"PING\r\n")
            assert before.recv(100) == b"+PONG\r\n"
            if former == "ended":
                before.close()
            stay.callback(before.close)
        written = without_counts(stage)
        proxy.setting("net.ipv4.ip_local_port_range", f"{ports.start} {ports.stop - 1}")
        try:
            proxy.nft("flush ruleset\n")
            with ExitStack() as stack:
                talks = [stack.enter_context(stage.talk()) for _ in range(8)]
                assert {talk.who() for talk in talks} == {server.host}
                eventually(lambda: without_counts(stage) == written, 10, "repaired")
                assert {talk.who() for talk in talks} == {server.host}
        finally:
            proxy.setting("net.ipv4.ip_local_port_range", everything.strip())


def without_counts(stage: Stage) -> str:
    return stage.hosts.proxy.output("nft", "--stateless", "list", "ruleset")


FAKE_NFT = """#!/bin/sh
read -r mode < {folder}/mode
case $mode in
    works) exec {folder}/real "$@" ;;
    refuses) echo "Error: Could not process rule: Device or resource busy" >&2; exit 1 ;;
    crashes) kill -SEGV $$ ;;
    hangs) exec sleep 1000 ;;
esac
"""


class FakeNft:
    """Stands in nft's place for one program, and does what it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._program = folder, folder / "nft"
        shutil.copy("/usr/sbin/nft", folder / "real")
        self._program.write_text(FAKE_NFT.format(folder=folder))
        self._program.chmod(0o755)
        self.be("works")
        mount = 'mount --bind "$0" /usr/sbin && exec "$@"'
        self.prefix = ("unshare", "--mount", "sh", "-c", mount, str(folder))

    def be(self, mode: str) -> None:
        """From the next call on."""
        (self._folder / "mode").write_text(f"{mode}\n")
        gone = self._folder / "gone"
        if mode == "missing":
            self._program.rename(gone)
        elif gone.exists():
            gone.rename(self._program)


@pytest.mark.parametrize("trouble", ["missing", "refuses", "crashes", "hangs"])
def test_C10_nft_error(stage: Stage, tmp_path: Path, trouble: str) -> None:
    """Old rules stay whole, the relay learns everything at once, and all is made good when nft works again."""
    one, two, three = stage.servers
    nft = FakeNft(tmp_path)
    stage.put(one)
    with stage.proxy("--plane", "kernel", prefix=nft.prefix) as proxy:
        proxy.wait_serving(stage.service, one.host)
        written = without_counts(stage)
        nft.be(trouble)
        stage.put(two)
        eventually(lambda: through_the_relay(stage, 4) == {one.host, two.host}, 3, "the relay has learnt of the second")
        stage.delete(one)
        eventually(lambda: through_the_relay(stage, 4) == {two.host}, 3, "the relay has learnt that the first is gone")
        stage.put(three)
        eventually(
            lambda: through_the_relay(stage, 4) == {two.host, three.host}, 3, "the relay has learnt of the third"
        )
        eventually(lambda: proxy.metric("amb_kernel_transactions_total", outcome="failed") >= 1, 15, "it is counted")
        assert proxy.kernel()["error"] is not None
        assert "as it was" in proxy.service(stage.service)["plane_why"]
        assert without_counts(stage) == written
        assert stage.answers(3) == {one.host}
        nft.be("works")
        eventually(lambda: stage.answers(4) == {two.host, three.host}, 30, "the kernel has learnt it, too")
        eventually(lambda: proxy.kernel()["error"] is None)
        assert proxy.kernel()["repairs"] == 0


def through_the_relay(stage: Stage, count: int) -> set[str]:
    """Who answers clients on the proxy's own host, whom no rule takes."""

    def ask() -> str:
        with Talk(stage.hosts.proxy, ("127.0.0.1", stage.port)) as talk:
            return talk.who()

    return {ask() for _ in range(count)}


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_C11_udp_conntrack(stage: Stage, figure: Figure, seconds: int) -> None:
    """A client that keeps sending moves on within a second when its instance goes; control: by itself it would not."""
    one, two, three = (stage.hosts.instance(number) for number in (11, 12, 13))
    for host in (one, two, three):
        stage.registry.put(stage.service, host, host, 53, protocol="udp")
    with (
        Datagrams(stage.hosts.server, (one, 53), (two, 53), (three, 53)),
        stage.proxy("--plane", "kernel") as proxy,
        stage.hosts.client.datagrams((stage.hosts.client.ipv4, 0), stage.to) as client,
    ):
        proxy.wait_serving(stage.service, one, two, three)
        first = answered_by(client)
        assert {answered_by(client) for _ in range(5)} == {first}, "a flow stays with its instance"
        removed = time.monotonic()
        stage.registry.delete(stage.service, first)
        eventually(lambda: answered_by(client) != first, 5, "the flow moves on")
        took = time.monotonic() - removed
        assert took < 1
        second = answered_by(client)
        assert {answered_by(client) for _ in range(5)} == {second}

        proxy.kill()
        stage.hosts.proxy.nft(f"delete element ip {PREFIX}{stage.port} fronts {{ udp . {stage.port} }}\n")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert answered_by(client) == second, "the control moved, too: this test shows nothing"
            time.sleep(0.05)
    figure(f"the flow moved after {took:.2f} s; without us it was still stuck after {seconds} s")


def test_pain_28_a_thousand_changes_in_ten_seconds_cut_no_connection(stage: Stage) -> None:
    """100 connections to instances that stay, the strictest of policies, and 1,000 others that come and go."""
    options = ("--on-removal", "cut", "--check-interval", "0")
    with stage.serving(*stage.servers, options=options) as proxy, ExitStack() as stack:
        talks = [stack.enter_context(stage.talk()) for _ in range(100)]
        names = [talk.who() for talk in talks]
        before, started = proxy.kernel()["transactions"], time.monotonic()
        for number in range(500):
            time.sleep(max(0.0, started + number / 50 - time.monotonic()))
            stage.registry.put(stage.service, f"passing{number}", f"10.78.50.{number % 250}")
            if number >= 5:
                stage.registry.delete(stage.service, f"passing{number - 5}")
        seconds, transactions = time.monotonic() - started, proxy.kernel()["transactions"] - before
        assert seconds < 20
        assert 20 <= transactions <= 20 * seconds + 2
        assert [talk.who() for talk in talks] == names
