"""Sockets of the service manager: it listens before our programs do, and while they restart."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import Program

pytestmark = pytest.mark.system


@pytest.fixture
def server() -> Iterator[NamedServer]:
    with NamedServer("there") as running:
        yield running


def listening(kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(1)  # as little as can be: it is for us to widen
    return sock


@contextlib.contextmanager
def waiting(sock: socket.socket) -> Iterator[socket.socket]:
    """A client that asked while nobody serves, and waits."""
    with socket.create_connection(sock.getsockname(), 20) as client:
        client.sendall(b"who are you?\n")
        yield client


def test_a_client_that_comes_before_the_program_or_between_two_is_served(server: NamedServer) -> None:
    with listening() as sock:
        port = sock.getsockname()[1]
        for _ in range(3):
            with waiting(sock) as client:
                arguments = "--listen", f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"
                with Program("simple_amb", *arguments, handed=[sock]) as program:
                    assert client.recv(100) == b"there\n"
                    client.close()
                    assert program.stop() == 0


@pytest.mark.etcd
@pytest.mark.parametrize("plane", ["relay", "auto"])
def test_every_worker_of_dynproxy_gets_them(
    server: NamedServer, shared_etcd: EtcdCluster, prefix: str, plane: str
) -> None:
    shared_etcd.etcdctl("put", f"{prefix}act/there", f"127.0.0.1:{server.port}")
    known = "--etcd", ",".join(shared_etcd.endpoints), "--prefix", prefix, "--instances-in", "127.0.0.0/8"
    with listening() as sock:
        arguments = *known, "--listen", "127.0.0.1", "--workers", "2", "--plane", plane
        for _ in range(2):
            with (
                waiting(sock) as client,
                Program("dynproxy", *arguments, "act", str(sock.getsockname()[1]), handed=[sock]) as program,
            ):
                assert client.recv(100) == b"there\n"
                client.close()
                assert program.stop() == 0


def test_datagrams_wait_as_well() -> None:
    with (
        listening(socket.SOCK_DGRAM) as server,
        listening(socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.settimeout(20)
        client.connect(sock.getsockname())
        client.send(b"early")
        port, there = sock.getsockname()[1], server.getsockname()[1]
        environment = {f"X_PORT_{port}_UDP": f"udp://127.0.0.1:{there}"}
        with Program("simple_amb", "--listen", "127.0.0.1", env=environment, handed=[sock]):
            data, session = server.recvfrom(100)
            assert data == b"early"
            server.sendto(b"answer", session)
            client.settimeout(20)
            assert client.recv(100) == b"answer"


def test_the_service_manager_is_given_what_we_listen_on_to_keep(server: NamedServer, tmp_path: Path) -> None:
    """By sd_notify's FDSTORE: what it keeps goes on listening when we have ended."""
    at = str(tmp_path / "notify")
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(at)
        manager.settimeout(20)
        arguments = "--listen", f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"
        with Program("simple_amb", *arguments, env={"NOTIFY_SOCKET": at}) as program:
            told, kept = socket.recv_fds(manager, 1000, 1)[:2]
            while not kept:
                told, kept = socket.recv_fds(manager, 1000, 1)[:2]
            program.wait_for("forwarding")
            program.stop()
        assert told == b"FDSTORE=1\nFDNAME=tcp 127.0.0.1 %d" % port
        with (
            socket.socket(fileno=kept[0]) as sock,
            waiting(sock) as client,
            Program("simple_amb", *arguments, handed=[sock]),
        ):
            assert client.recv(100) == b"there\n"
            client.close()


def test_a_socket_that_nobody_serves_is_named_and_closed(server: NamedServer) -> None:
    """Clients of it would wait for ever."""
    with listening() as sock, listening() as other:
        arguments = "--listen", f"127.0.0.1:{sock.getsockname()[1]}", f"127.0.0.1:{server.port}"
        stray = other.getsockname()[1]
        with Program("simple_amb", *arguments, handed=[sock, other]) as program:
            program.wait_for(rf"127\.0\.0\.1 port {stray}, and nothing here serves that")
            other.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", stray), 5).close()


def test_what_is_meant_for_another_process_is_left_alone(server: NamedServer) -> None:
    """LISTEN_PID names somebody else: a child of an activated service got its environment."""
    with listening() as sock:
        port = sock.getsockname()[1]
        sock.close()
        arguments = "--listen", f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"
        with Program("simple_amb", *arguments, env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as program:
            program.wait_for("forwarding")
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(b"who are you?\n")
                assert client.recv(100) == b"there\n"
