"""One check against real sockets. The check's clock is the test's: nothing here waits."""

from __future__ import annotations

import errno
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ambcore.health import Result, Verdict
from ambcore.model import Address
from ambcore.proxy_protocol import local
from ambnet.relay.sockets import reset_on_close
from ambnet.tcpcheck import LISTEN, LOOK, TcpCheck, knock
from tests.support.netns import Namespace

TIMEOUT = 0.4
BEGAN = 1000.0
LATER = BEGAN + 30.0  # long past every moment at which a check may end


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listening:
        listening.settimeout(10)
        yield listening


def began(server: socket.socket) -> TcpCheck:
    """A check of a server, just begun."""
    check = knock(address_of(server), TIMEOUT, BEGAN)
    assert isinstance(check, TcpCheck), check
    return check


def address_of(sock: socket.socket) -> Address:
    return Address(*sock.getsockname()[:2])


def end(check: TcpCheck | Result) -> Result:
    """What a check finds when it is looked at late."""
    result = check if isinstance(check, Result) else check.look(LATER)
    assert result is not None
    return result


def test_silence_passes(server: socket.socket) -> None:
    """In most protocols the client speaks first. The time taken is the handshake's, not ours."""
    verdict, took, _ = end(began(server))
    assert verdict is Verdict.PASSED
    assert 0 < took < LOOK


def test_greeting_passes(server: socket.socket) -> None:
    check = began(server)
    client, _ = server.accept()
    with client:
        client.sendall(b"220 ready\r\n")
        assert end(check).verdict is Verdict.PASSED


def test_server_meets_a_plain_end_of_file_and_no_reset(server: socket.socket) -> None:
    """A reset is an error to the server's program, and some log each or die of it."""
    check = began(server)
    client, _ = server.accept()
    with client:
        client.sendall(b"220 ready\r\n")
        end(check)
        client.settimeout(10)
        assert client.recv(1) == b""


def test_accepting_and_hanging_up_fails(server: socket.socket) -> None:
    """docker-proxy accepts before it knows whether anybody listens in the container."""
    check = began(server)
    server.accept()[0].close()
    assert end(check).verdict is Verdict.CLOSED


def test_accepting_and_resetting_fails(server: socket.socket) -> None:
    check = began(server)
    client, _ = server.accept()
    reset_on_close(client)
    client.close()
    assert end(check).verdict is Verdict.CLOSED


def test_a_connected_instance_is_listened_to_for_a_while(server: socket.socket) -> None:
    check = began(server)
    assert check.look(BEGAN + LISTEN / 2) is None
    assert BEGAN + LISTEN < check.next_look < BEGAN + LISTEN + LOOK
    server.accept()[0].close()
    assert end(check).verdict is Verdict.CLOSED


@pytest.mark.parametrize("words", [local(1), local(2)], ids=["v1", "v2"])
def test_an_instance_that_expects_the_proxy_protocol_is_told_that_this_is_a_check(
    server: socket.socket, words: bytes
) -> None:
    """And is heard out: who speaks first waits for that, and shall not meet a reset within its words."""
    check = knock(address_of(server), TIMEOUT, BEGAN, words)
    assert isinstance(check, TcpCheck)
    assert check.look(BEGAN + LOOK) is None
    assert BEGAN + LOOK + LISTEN < check.next_look < BEGAN + LOOK + LISTEN + LOOK
    client, _ = server.accept()
    with client:
        client.settimeout(10)
        assert client.recv(100) == words
        client.sendall(b"220 ready\r\n")
        assert end(check).verdict is Verdict.PASSED
        assert client.recv(1) == b""


def test_a_check_that_is_given_up_says_what_it_was(server: socket.socket) -> None:
    check = knock(address_of(server), TIMEOUT, BEGAN, local(2))
    assert isinstance(check, TcpCheck)
    client, _ = server.accept()
    with client:
        check.close()
        check.close()
        client.settimeout(10)
        assert client.recv(100) == local(2)
        assert client.recv(100) == b""


def test_who_has_hung_up_before_it_was_told_anything_fails(server: socket.socket) -> None:
    check = knock(address_of(server), TIMEOUT, BEGAN, local(2))
    client, _ = server.accept()
    reset_on_close(client)
    client.close()
    assert end(check).verdict is Verdict.CLOSED


def test_a_refusal_stays_one_when_there_was_something_to_say() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert end(knock(address_of(deaf), TIMEOUT, BEGAN, local(2))).verdict is Verdict.REFUSED


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_without_a_listener_refuses(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as deaf:
        deaf.bind((host, 0))
        assert end(knock(address_of(deaf), TIMEOUT, BEGAN)).verdict is Verdict.REFUSED


def test_full_accept_queue_is_silence_for_as_long_as_the_timeout() -> None:
    """The kernel drops what asks a server that no longer accepts: to a client it is a black hole."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        check = began(server)
        assert check.next_look == BEGAN + LOOK
        assert check.look(check.next_look) is None
        assert check.next_look == BEGAN + TIMEOUT
        result = check.look(BEGAN + TIMEOUT)
        assert result is not None
        assert (result.verdict, round(result.took, 6), result.why) == (Verdict.SILENT, TIMEOUT, "silent")


def test_timeout_shorter_than_a_look_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check = knock(address_of(server), LOOK / 10, BEGAN)
        assert isinstance(check, TcpCheck)
        assert check.next_look == BEGAN + LOOK / 10
        check.close()
        check.close()


def test_lack_of_descriptors_is_trouble_of_this_machine(server: socket.socket) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    address = address_of(server)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        found = knock(address, TIMEOUT, BEGAN)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found == Result(Verdict.LOCAL, 0.0, "Too many open files")


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (errno.EADDRNOTAVAIL, Verdict.LOCAL),
        (errno.ENETDOWN, Verdict.LOCAL),
        (errno.EPERM, Verdict.LOCAL),
        (errno.ENOBUFS, Verdict.LOCAL),
        (errno.ECONNREFUSED, Verdict.REFUSED),
        (errno.ECONNRESET, Verdict.CLOSED),
        (errno.ETIMEDOUT, Verdict.SILENT),
        (errno.EHOSTUNREACH, Verdict.SILENT),
        (errno.ENETUNREACH, Verdict.SILENT),
        (errno.EPROTO, Verdict.SILENT),
    ],
)
def test_system_error_of_a_connect_is_judged_by_whose_fault_it_is(
    number: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: number)
    found = knock(Address("127.0.0.1", 1), TIMEOUT, BEGAN)
    assert isinstance(found, Result)
    assert found.verdict is verdict


# Checks ADDRESS... one after the other and prints a verdict a line; --listen PORT serves there and is its own client.
PROGRAM = """
import socket, sys
from ambcore.health import Result
from ambcore.model import Address
from ambnet.tcpcheck import knock
words, held = sys.argv[1:], []
if words[0] == "--listen":
    server = socket.create_server(("127.0.0.1", int(words[1])))
    held.append(socket.create_connection(server.getsockname()))
    words = words[2:]
for text in words:
    found = knock(Address.parse(text), 0.4, 0.0)
    result = found if isinstance(found, Result) else found.look(30.0)
    print(result.verdict.value, result.error, sep=":")
"""


def checked_inside(namespace: Namespace, *words: str) -> list[str]:
    done = subprocess.run(
        [*namespace.prefix, sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.netns
def test_what_a_packet_filter_or_a_missing_route_answers() -> None:
    with Namespace() as namespace:
        namespace.run("nft", "add table ip t; add chain ip t in { type filter hook input priority 0; }")
        namespace.run("nft", "add rule ip t in tcp dport 7 drop")
        namespace.run("nft", "add rule ip t in tcp dport 8 reject with tcp reset")
        namespace.run("ip", "route", "add", "unreachable", "192.0.2.0/24")
        asked = ("127.0.0.1:7", "127.0.0.1:8", "192.0.2.1:80", "198.51.100.1:80")
        assert checked_inside(namespace, *asked) == [
            "silent:",
            "refused:",
            "silent:No route to host",
            "silent:Network is unreachable",
        ]


@pytest.mark.netns
def test_no_port_left_is_trouble_of_this_machine() -> None:
    with Namespace() as namespace:
        namespace.setting("net.ipv4.ip_local_port_range", "40000 40000")
        found = checked_inside(namespace, "--listen", "50000", "127.0.0.1:50000")
        assert found == ["local trouble:Cannot assign requested address"]


@pytest.mark.netns
def test_meeting_oneself_is_no_answer() -> None:
    """A connect from the very port it asks reaches itself when nobody listens there (TCP's simultaneous open).

    Docker publishes on ports that connects take theirs from, too: on its host the dead would come alive by chance.
    """
    with Namespace() as namespace:
        namespace.setting("net.ipv4.ip_local_port_range", "40000 40000")
        assert checked_inside(namespace, "127.0.0.1:40000") == ["refused:"]
