"""A hand-over between two ends that talk over a real unix socket: whatever becomes of one, the other serves."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ambcore.errors import ConfigError
from ambnet.handover.heir import Arrival, arrive, check_turn, claim, say_ready
from ambnet.handover.holder import Holder
from ambnet.handover.words import ALL, HELLO, MINE, PACKET, READY, YOURS
from ambnet.relay.loop import IN, Loop, Timer
from tests.support.ports import free_port
from tests.support.programs import ROOT


class Watching:
    """A relay's loop as a Holder uses it."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def add_reader(self, fd: int, ready: Callable[[], object]) -> None:
        self.loop.add(fd, IN, lambda _: ready())

    def remove_reader(self, fd: int) -> None:
        self.loop.remove(fd)

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        return self.loop.call_later(delay, call)


class Serving:
    """A process that serves at a path, with three sockets, in a thread of its own. `said` is what was asked of it."""

    def __init__(self, path: Path, claim: float) -> None:
        self.path = str(path)
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.said: list[str] = []
        self.news = threading.Condition()
        self.loop = Loop()
        self.listener = arrive(self.path).listener

        def pause(then: Callable[[], None]) -> None:
            self.say("pause")
            then()

        steps = pause, lambda: self.say("resume"), lambda: self.say("over")
        self.holder = Holder(Watching(self.loop), self.listener, lambda: self.sockets, *steps, claim=claim)
        self.thread = threading.Thread(target=self.loop.run)

    def say(self, what: str) -> None:
        with self.news:
            self.said.append(what)
            self.news.notify_all()

    def wait_for(self, *said: str) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.said == list(said), 10), self.said

    def do(self, what: Callable[[], object]) -> None:
        """In its own thread, and done on return."""
        done = threading.Event()

        def work() -> None:
            what()
            done.set()

        self.loop.call_soon_threadsafe(work)
        assert done.wait(10)

    def close(self) -> None:
        self.do(self.loop.stop)
        self.thread.join(10)
        self.holder.close()
        self.loop.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hand-over"


@contextlib.contextmanager
def serving(path: Path, claim: float = 10.0) -> Iterator[Serving]:
    made = Serving(path, claim)
    made.thread.start()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def arriving(path: Path) -> Iterator[Arrival]:
    arrival = arrive(str(path))
    try:
        yield arrival
    finally:
        arrival.close()
        for sock in arrival.sockets:
            sock.close()


def holder_of(arrival: Arrival) -> socket.socket:
    assert arrival.holder is not None
    return arrival.holder


def word(arrival: Arrival) -> bytes:
    return holder_of(arrival).recv(PACKET)


def test_it_gets_the_very_sockets_and_takes_over_step_by_step(path: Path) -> None:
    with serving(path) as one, arriving(path) as two:
        assert [sock.getsockname() for sock in two.sockets] == [sock.getsockname() for sock in one.sockets]
        assert [sock.type for sock in two.sockets] == [sock.type for sock in one.sockets]
        one.wait_for()
        say_ready(holder_of(two))
        check_turn(word(two))
        one.wait_for("pause")
        claim(holder_of(two))
        one.wait_for("pause", "over")


def test_hundreds_of_sockets_pass(path: Path) -> None:
    with serving(path) as one:
        one.sockets += [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(300)]
        with arriving(path) as two:
            assert len(two.sockets) == 303


POOR = """
import resource, sys
from ambnet.handover.heir import arrive
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
arrive(sys.argv[1])
"""


def test_one_that_may_not_have_so_many_files_says_so_and_leaves_the_other_serving(path: Path) -> None:
    """The kernel drops the sockets that do not fit, and tells only who asks: their clients would wait for ever."""
    with serving(path) as one:
        one.sockets += [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
        command = [sys.executable, "-c", POOR, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "--hand-over: we were given more sockets than we may have open files" in done.stderr
        with arriving(path) as three:
            assert len(three.sockets) == 53


@pytest.mark.parametrize("steps", [(), (READY,), (b"nonsense",), (READY, b"nonsense"), (MINE,)])
def test_one_that_goes_at_any_step_leaves_the_other_serving(path: Path, steps: tuple[bytes, ...]) -> None:
    """And the next one is welcome."""
    expected = ["pause", "resume"] if READY in steps else []
    with serving(path) as one:
        with arriving(path) as two:
            for step in steps:
                holder_of(two).send(step)
                if step == READY:
                    assert word(two) == YOURS
        one.wait_for(*expected)
        with arriving(path) as three:
            say_ready(holder_of(three))
            check_turn(word(three))
            claim(holder_of(three))
        one.wait_for(*expected, "pause", "over")


def test_one_that_sleeps_over_its_turn_has_lost_it(path: Path) -> None:
    with serving(path, claim=0.05) as one, arriving(path) as two:
        say_ready(holder_of(two))
        assert word(two) == YOURS
        one.wait_for("pause", "resume")
        with pytest.raises(ConfigError, match="that took you too long"):
            claim(holder_of(two))
        assert one.said == ["pause", "resume"]


def test_of_two_at_once_one_is_sent_away(path: Path) -> None:
    with serving(path), arriving(path), pytest.raises(ConfigError, match="another process is taking over already"):
        arrive(str(path))


def test_another_version_is_sent_away(path: Path) -> None:
    with serving(path) as one, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as two:
        two.connect(str(path))
        two.send(HELLO + b"7")
        assert two.recv(PACKET) == b"no, I speak version 1 of this, and you another"
        assert two.recv(PACKET) == b""
        assert one.said == []


def test_a_holder_of_another_version_is_said_to_be_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as future:
        future.bind(str(path))
        future.listen(1)

        def answer() -> None:
            channel, _ = future.accept()
            with channel:
                channel.recv(PACKET)
                channel.send(b"no, I speak version 7\n of this")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConfigError, match=r"--hand-over: .*says no: I speak version 7\\n of this"):
            arrive(str(path))
        thread.join(10)


def test_one_that_ends_gives_way_at_once(path: Path) -> None:
    """Ready or not: nobody else would serve."""
    with serving(path) as one, arriving(path) as two:
        one.do(one.holder.yield_now)
        one.do(one.holder.close)
        check_turn(word(two))
        claim(holder_of(two))
        assert word(two) == b""


def test_a_file_that_was_left_there_is_no_obstacle(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    with arriving(path) as one:
        assert one.holder is None
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["file", "folder", "nowhere", "long", "stream"])
def test_what_cannot_be_used_is_said(tmp_path: Path, what: str) -> None:
    path = tmp_path / "there"
    with socket.socket(socket.AF_UNIX) as other:
        match what:
            case "file":
                path.write_text("precious")
            case "folder":
                path.mkdir()
            case "nowhere":
                path = tmp_path / "no" / "folder"
            case "long":
                path = tmp_path / ("x" * 120)
            case "stream":
                other.bind(str(path))
                other.listen(1)
        with pytest.raises(ConfigError, match=r"--hand-over: /"):
            arrive(str(path))
    if what == "file":
        assert path.read_text() == "precious"


STRANGER = """
import os, sys
from ambnet.handover.heir import arrive
os.setgid(65534); os.setuid(65534)
arrive(sys.argv[1])
"""


def test_another_users_process_gets_nothing() -> None:
    """Not by the file's mode alone: somebody may have opened that."""
    if os.geteuid():
        pytest.fail("needs root, to be somebody else", pytrace=False)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder, "hand-over")) as one:
        for name, mode in ((folder, 0o711), (one.path, 0o666), (f"{one.path}.lock", 0o666)):
            Path(name).chmod(mode)
        command = [sys.executable, "-c", STRANGER, one.path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "your user is 65534, mine is 0" in done.stderr
        assert one.said == []


def test_clients_in_the_queue_are_there_for_the_next(path: Path) -> None:
    """Whoever has connected before the hand-over, and was not accepted, is served after the first has gone."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listening, serving(path) as one:
        one.sockets.append(listening)
        with socket.create_connection(("127.0.0.1", port), 10) as client, arriving(path) as two:
            listening.close()
            server, _ = two.sockets[-1].accept()
            with server:
                server.send(b"hello")
                assert client.recv(10) == b"hello"


def test_what_is_said_ends_with_everything(path: Path) -> None:
    with serving(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as two:
        two.connect(str(path))
        two.send(HELLO + b"1")
        words = []
        while (got := socket.recv_fds(two, PACKET, 64))[0] != ALL:
            words.append(got[0])
            for fd in got[1]:
                os.close(fd)
        assert words == [b"sockets"]
