"""simple-amb as a process: what an operator and a client see of it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ambnet.relay.sockets import open_listeners
from tests.simple_amb.conftest import ROOT, Ambassador, Start
from tests.support.ports import free_port
from tests.support.programs import _clean_environment
from tests.support.relay_peers import (
    Address,
    Greeter,
    Instance,
    ask,
    black_hole,
    connect,
    in_thread,
    receive_digest,
    refusing,
    reset,
    talking,
    was_reset,
)
from tests.support.waiting import eventually


def text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def test_bytes_pass_both_ways(start: Start) -> None:
    with Instance() as target:
        client, server = talking(start(text(target.address)), target)
        data = os.urandom(5_000_000)
        sending = in_thread(lambda: server.sendall(data))
        assert receive_digest(client, len(data)) == hashlib.sha256(data).hexdigest()
        sending.join()


def test_a_name_is_a_target(start: Start) -> None:
    with Greeter("named") as target:
        assert ask(start(f"localhost:{target.address[1]}").address) == "named"


def test_without_arguments_each_port_of_the_environment_leads_to_its_target(start: Start) -> None:
    with Greeter("one") as one, Greeter("two") as two:
        ports = free_port(), free_port()
        variables = {
            f"ONE_PORT_{ports[0]}_TCP": f"tcp://{text(one.address)}",
            f"TWO_PORT_{ports[1]}_TCP": f"tcp://localhost:{two.address[1]}",
        }
        amb = start(**variables)
        assert [ask(("127.0.0.1", port)) for port in (*ports, *ports)] == ["one", "two", "one", "two"]
        amb.process.terminate()
        assert amb.process.wait(5) == 0


def test_one_dead_target_is_no_matter_of_the_others(start: Start) -> None:
    with Greeter("alive") as alive:
        ports = free_port(), free_port()
        start(
            **{
                f"DEAD_PORT_{ports[0]}_TCP": f"tcp://{text(refusing())}",
                f"ALIVE_PORT_{ports[1]}_TCP": f"tcp://{text(alive.address)}",
            }
        )
        waiting = connect(("127.0.0.1", ports[0]))
        assert ask(("127.0.0.1", ports[1])) == "alive"
        assert was_reset(waiting, timeout=5.0)


def test_datagrams_go_to_their_target_and_back_beside_tcp_on_the_same_port(start: Start) -> None:
    with Greeter("by tcp") as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        port = free_port()
        start(
            **{
                f"DNS_PORT_{port}_UDP": f"udp://localhost:{target.getsockname()[1]}",
                f"DNS_PORT_{port}_TCP": f"tcp://{text(stream.address)}",
            }
        )
        target.settimeout(0.5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            client.settimeout(10)
            question, sender = eventually(lambda: asked(client, target), 10)
            target.sendto(question[::-1], sender)
            assert client.recv(100) == b"noitseuq"
        assert ask(("127.0.0.1", port)) == "by tcp"


def asked(client: socket.socket, target: socket.socket) -> tuple[bytes, Address]:
    """A datagram that arrived; until the target's name was looked up they are lost."""
    client.send(b"question")
    try:
        return target.recvfrom(100)
    except TimeoutError as error:
        raise AssertionError("no datagram arrived") from error


def test_a_udp_client_is_forgotten_after_the_silence_that_its_port_allows(start: Start) -> None:
    """It comes to its target from another port of ours then; the other port's clients are remembered."""
    ports = free_port(), free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        target.settimeout(10)
        where = f"udp://{text(target.getsockname())}"
        variables = {f"{name}_PORT_{port}_UDP": where for name, port in zip("AB", ports, strict=True)}
        start(AMB_UDP_IDLE=f"60,{ports[0]}=0.2", **variables)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in ports]
            for client, port in zip(clients, ports, strict=True):
                client.connect(("127.0.0.1", port))
            first = [asked(client, target)[1] for client in clients]
            time.sleep(1.0)  # the silence itself
            then = [asked(client, target)[1] for client in clients]
        assert then[0] != first[0]
        assert then[1] == first[1]


def test_one_that_forwards_datagrams_alone_ends_as_any_other(start: Start) -> None:
    amb = start(**{f"DNS_PORT_{free_port()}_UDP": "udp://127.0.0.1:9"})
    amb.process.terminate()
    assert amb.process.wait(5) == 0
    assert "asked again" not in amb.log


def test_the_first_target_that_answers_is_taken(start: Start) -> None:
    with Greeter("second") as second, Greeter("third") as third:
        amb = start(text(refusing()), text(second.address), text(third.address))
        assert {ask(amb.address) for _ in range(10)} == {"second"}


def test_C3_a_silent_first_target_costs_the_connect_timeout(start: Start) -> None:
    with Greeter("second") as second, black_hole() as hole:
        amb = start(text(hole), text(second.address), "--connect-timeout", "0.3")
        began = time.monotonic()
        assert ask(amb.address) == "second"
        assert 0.3 <= time.monotonic() - began < 1.5


def test_C4_when_nobody_answers_the_client_is_reset_after_a_second(start: Start) -> None:
    amb = start(text(refusing()), text(refusing()))
    assert was_reset(connect(amb.address), timeout=3.0)
    assert amb.process.poll() is None


def test_a_name_nobody_knows_resets_the_client_and_says_so(start: Start) -> None:
    amb = start("no-such-host.invalid:1", text(refusing()))
    assert was_reset(connect(amb.address), timeout=15.0)
    eventually(lambda: "looking up no-such-host.invalid" in amb.log)


def test_its_resident_set_is_at_most_20_mib(start: Start) -> None:
    with Instance() as target:
        amb = start(f"localhost:{target.address[1]}")
        pairs = [talking(amb, target) for _ in range(20)]
        assert amb.resident_kib() <= 20 * 1024
        assert len(pairs) == 20


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_C7_sigterm_drain(start: Start, how: signal.Signals) -> None:
    """A signal closes the port at once; what is open may finish; then the process ends with 0."""
    with Instance() as target:
        amb = start(text(target.address))
        client, server = talking(amb, target)
        amb.process.send_signal(how)
        eventually(lambda: refused(amb))
        server.sendall(b"last words")
        assert client.recv(100) == b"last words"
        client.close()
        server.close()
        assert amb.process.wait(5) == 0


def test_a_second_sigterm_ends_it_at_once_with_1(start: Start) -> None:
    with Instance() as target:
        amb = start(text(target.address), "--drain", "60")
        client, _ = talking(amb, target)
        amb.process.terminate()
        eventually(lambda: refused(amb))
        amb.process.terminate()
        assert amb.process.wait(5) == 1
        assert was_reset(client)


def test_a_drain_ends_when_its_time_is_up(start: Start) -> None:
    with Instance() as target:
        amb = start(text(target.address), AMB_DRAIN="0.3")
        client, server = talking(amb, target)
        began = time.monotonic()
        amb.process.terminate()
        assert was_reset(client, timeout=3.0)
        assert was_reset(server, timeout=3.0)
        assert amb.process.wait(5) == 0
        assert time.monotonic() - began >= 0.3


def test_systemd_is_told_of_its_life(start: Start) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0simple-amb-test-{os.getpid()}")
        manager.settimeout(5)
        path = "@" + manager.getsockname()[1:].decode()
        amb = start(text(refusing()), NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
        heard = iter(lambda: manager.recv(1000), b"")
        told = list(itertools.islice((each for each in heard if not each.startswith(b"FDSTORE")), 4))
        assert b"READY=1\nSTATUS=forwarding" in told
        assert told.count(b"WATCHDOG=1") == 3
        amb.process.terminate()
        assert amb.process.wait(5) == 0
        manager.settimeout(0)
        assert b"STOPPING=1" in iter(lambda: manager.recv(1000), b"")


def test_by_default_both_families_are_listened_on() -> None:
    for listener in open_listeners(None, 0):
        with listener:
            port = listener.getsockname()[1]
            families = ["127.0.0.1"] + (["::1"] if listener.family == socket.AF_INET6 else [])
            for address in families:
                connect((address, port)).close()


@pytest.mark.parametrize(
    ("arguments", "said"), [(["redis"], "HOST:PORT"), ([], "HOST:PORT"), (["a:1", "--listen", "0"], "--listen")]
)
def test_bad_arguments_exit_2_with_one_line_naming_the_option(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"simple-amb: {said}: ")
    assert done.stderr.count("\n") == 1


def test_a_variable_that_cannot_be_read_exits_2_with_one_line_naming_it() -> None:
    done = run(REDIS_PORT_6379_TCP="192.168.1.52:6379")
    assert done.returncode == 2
    assert done.stderr == "simple-amb: REDIS_PORT_6379_TCP: expected tcp://HOST:PORT, not '192.168.1.52:6379'\n"


def test_a_port_in_use_exits_1_with_one_line() -> None:
    with Instance() as taken:
        done = run("127.0.0.1:1", "--listen", text(taken.address))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"ERROR simple-amb: cannot listen on {text(taken.address)}: Address already in use"
    ]


def test_nothing_heavy_is_loaded() -> None:
    code = "import sys, simple_amb.forwarder; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {"asyncio", "grpc", "aiohttp", "docker", "hashlib", "json", "ssl"} & set(done.stdout.split())


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simple_amb", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=10,
        check=False,
        env=_clean_environment() | environment,
    )


def refused(amb: Ambassador) -> bool:
    """Whether nobody listens any more. A client in the very moment of that is reset."""
    try:
        reset(connect(amb.address))
    except ConnectionResetError:
        return False
    except ConnectionRefusedError:
        return True
    return False
