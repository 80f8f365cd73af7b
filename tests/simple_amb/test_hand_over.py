"""simple-amb takes over from simple-amb: nobody is refused, and what is open or asked goes on."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import Program
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

PATIENCE = 60.0
Start = Callable[..., Program]


@pytest.fixture
def server() -> Iterator[NamedServer]:
    with NamedServer("there") as running:
        yield running


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(tmp_path: Path, port: int, server: NamedServer) -> Iterator[Start]:
    """Start one at the test's port and path; further arguments come last."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, listen: int = port) -> Program:
            where = ("--listen", f"127.0.0.1:{listen}", "--hand-over", str(tmp_path / "hand-over"), "--drain", "30")
            target = f"127.0.0.1:{server.port}"
            return stack.enter_context(Program("simple_amb", *where, *arguments, target))

        yield begin


def ask(client: socket.socket) -> bytes:
    client.settimeout(PATIENCE)
    client.sendall(b"who are you?\n")
    return client.recv(100)


@contextlib.contextmanager
def strangers(port: int) -> Iterator[list[OSError | bytes]]:
    """New clients one after the other while the block runs, and what was wrong with some."""
    wrong: list[OSError | bytes] = []
    over = threading.Event()

    def come() -> None:
        while not over.wait(0.002):
            try:
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                    if (answer := ask(client)) != b"there\n":
                        wrong.append(answer)
            except OSError as error:
                wrong.append(error)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


def test_C6_simple_amb_hands_over(start: Start, port: int) -> None:
    """Three times, while clients come; one that is connected stays with the process that it came to."""
    one = start()
    one.wait_for("forwarding", PATIENCE)
    eventually(lambda: connects(port), PATIENCE)
    with strangers(port) as wrong:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                assert ask(client) == b"there\n"
                two = start()
                two.wait_for("taken over 1 sockets", PATIENCE)
                one.wait_for("finishing", PATIENCE)
                assert ask(client) == b"there\n"
                assert one.process.poll() is None
            assert one.process.wait(PATIENCE) == 0
            one = two
    assert wrong == []


def test_C6_the_one_before_may_be_stopped_once_and_finishes_what_it_has(start: Start, port: int) -> None:
    """Whoever has started the next one stops the old one, as people do; a second signal is meant otherwise."""
    one = start()
    one.wait_for("forwarding", PATIENCE)
    eventually(lambda: connects(port), PATIENCE)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        assert ask(client) == b"there\n"
        start()
        one.wait_for("finishing", PATIENCE)
        one.process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            one.process.wait(0.5)
        assert ask(client) == b"there\n"
    assert one.process.wait(PATIENCE) == 0


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        return ask(client) == b"there\n"
    return False


def test_C29_a_wrong_successor_leaves_simple_amb_serving(start: Start, port: int) -> None:
    """One with a wrong option, and one that would serve other ports: their place is another."""
    one = start()
    one.wait_for("forwarding", PATIENCE)
    eventually(lambda: connects(port), PATIENCE)
    with strangers(port) as wrong:
        bad = start("--connect-timeout", "soon")
        assert bad.process.wait(PATIENCE) == 2
        assert bad.log == "simple-amb: --connect-timeout: expected a number of seconds, not 'soon'\n"
        other = start(listen=free_port())
        assert other.process.wait(PATIENCE) == 2
        assert "--hand-over: whoever serves there listens on none of our ports" in other.log
        one.wait_for("serving on", PATIENCE)
        assert one.process.poll() is None
    assert wrong == []


def test_one_that_was_killed_left_a_file_which_is_no_obstacle(start: Start, port: int) -> None:
    one = start()
    one.wait_for("forwarding", PATIENCE)
    eventually(lambda: connects(port), PATIENCE)
    one.kill()
    two = start()
    eventually(lambda: connects(port), PATIENCE)
    assert two.stop(PATIENCE) == 0


def test_datagrams_go_on_and_late_answers_arrive(tmp_path: Path, port: int) -> None:
    """What was asked through the old process is answered through it; what is asked from then on goes by the new one."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for sock in (server, client):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(PATIENCE)
        client.connect(("127.0.0.1", port))
        environment = {f"X_PORT_{port}_UDP": f"udp://127.0.0.1:{server.getsockname()[1]}"}
        arguments = "--listen", "127.0.0.1", "--hand-over", str(tmp_path / "hand-over"), "--drain", "30"
        one = stack.enter_context(Program("simple_amb", *arguments, env=environment))
        one.wait_for("forwarding", PATIENCE)
        client.send(b"first")
        data, old_way = server.recvfrom(100)
        assert data == b"first"
        two = stack.enter_context(Program("simple_amb", *arguments, env=environment))
        two.wait_for("taken over 1 sockets", PATIENCE)
        one.wait_for("finishing", PATIENCE)
        server.sendto(b"late", old_way)
        assert client.recv(100) == b"late"
        client.send(b"second")
        data, new_way = server.recvfrom(100)
        assert (data, new_way != old_way) == (b"second", True)
        server.sendto(b"prompt", new_way)
        assert client.recv(100) == b"prompt"
