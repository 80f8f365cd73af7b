"""A worker's life and its limits."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from pathlib import Path

from ambnet.relay.protocol import Close
from ambnet.relay.upstream import EJECT_AFTER, Endpoint
from tests.support.relay_peers import Greeter, Instance, ask, connect, receive_all, refusing, talking, was_reset
from tests.support.relay_worker import SERVICE, RelayWorker, endpoint
from tests.support.waiting import eventually


def test_a_worker_is_small(relay: RelayWorker, instance: Instance) -> None:
    relay.apply(endpoint("one", instance))
    clients = [talking(relay, instance) for _ in range(10)]
    assert relay.resident_kib() <= 20 * 1024
    assert len(clients) == 10


def test_a_thousand_instances_fit_into_20_mib(relay: RelayWorker, instance: Instance) -> None:
    """Each costs about 1.5 KiB, as the old and the new snapshot are held for a moment."""
    for port in range(2):
        relay.apply(
            *(Endpoint(f"redis-{n:04}.service@core-01", f"10.0.{n % 256}.1", n + 1 + port) for n in range(1000))
        )
    relay.apply(endpoint("one", instance))
    assert len(talking(relay, instance)) == 2
    assert relay.resident_kib() <= 20 * 1024


def test_C7_drain_lets_connections_finish_and_ends_with_0(relay: RelayWorker, instance: Instance) -> None:
    relay.apply(endpoint("one", instance))
    client, server = talking(relay, instance)
    relay.drain(10.0)
    relay.listener.close()
    eventually(lambda: not _listens(relay))
    client.sendall(b"last words")
    assert server.recv(100) == b"last words"
    client.close()
    server.close()
    assert relay.process.wait(5) == 0
    assert relay.connections == 0


def test_a_drain_that_takes_too_long_resets_what_is_left(relay: RelayWorker, instance: Instance) -> None:
    relay.apply(endpoint("one", instance))
    client, server = talking(relay, instance)
    relay.drain(0.2)
    assert was_reset(client)
    assert was_reset(server)
    assert relay.process.wait(5) == 0


def test_a_drain_takes_on_everybody_who_waits_in_the_backlog(relay: RelayWorker) -> None:
    """Their kernels told them that they are connected: closing the port on them would be a reset."""
    with Greeter("alive") as alive:
        relay.apply(endpoint("alive", alive))
        relay.process.send_signal(signal.SIGSTOP)
        clients = [connect(relay.address) for _ in range(300)]
        relay.drain(10.0)
        relay.listener.close()
        relay.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert receive_all(client) == b"alive"
            client.close()
        assert relay.process.wait(5) == 0


def test_what_a_drain_cuts_is_counted(relay: RelayWorker, instance: Instance) -> None:
    relay.apply(endpoint("one", instance))
    ends = [talking(relay, instance) for _ in range(2)]
    relay.drain(0.2)
    assert relay.process.wait(5) == 0
    assert len(ends) == relay.counter("drain_closed") == 2


def test_a_parent_that_goes_during_a_drain_was_in_a_hurry(instance: Instance) -> None:
    """It was told a second time to end, or its deadline has passed: nobody is there any more to end us."""
    with RelayWorker(orphan_drain=60.0) as relay:
        relay.apply(endpoint("one", instance))
        client, _ = talking(relay, instance)
        relay.drain(60.0)
        relay.listener.close()
        eventually(lambda: not _listens(relay))
        relay.control.shutdown(socket.SHUT_RDWR)
        assert was_reset(client, timeout=2.0)
        assert relay.process.wait(5) == 0


def test_signals_are_for_the_parent(relay: RelayWorker) -> None:
    """A signal to the whole process group must not cut connections: the parent drains."""
    with Greeter("alive") as alive:
        relay.apply(endpoint("alive", alive))
        relay.process.send_signal(signal.SIGTERM)
        relay.process.send_signal(signal.SIGINT)
        assert ask(relay.address) == "alive"


def test_without_its_parent_a_worker_frees_the_port_and_finishes(relay: RelayWorker, instance: Instance) -> None:
    relay.apply(endpoint("one", instance))
    client, server = talking(relay, instance)
    relay.listener.close()
    relay.control.shutdown(socket.SHUT_RDWR)
    eventually(lambda: not _listens(relay))
    client.sendall(b"and yet")
    assert server.recv(100) == b"and yet"
    assert relay.process.wait(5) == 0


def test_without_its_parent_a_worker_finishes_also_if_a_log_line_tells_it_so(
    relay: RelayWorker, instance: Instance
) -> None:
    """The line says that an instance is ejected: the worker is in the middle of taking on a port's last clients."""
    relay.apply(endpoint("one", instance))
    client, server = talking(relay, instance)
    relay.apply(endpoint("gone", refusing()))
    relay.process.send_signal(signal.SIGSTOP)
    for _ in range(2 * EJECT_AFTER):
        connect(relay.address)
    relay.send(Close(SERVICE, *relay.address))
    relay.control.shutdown(socket.SHUT_RDWR)
    relay.process.send_signal(signal.SIGCONT)
    eventually(lambda: not _listens(relay))
    client.sendall(b"and yet")
    assert server.recv(100) == b"and yet"
    assert relay.process.wait(5) == 0


def test_a_worker_that_is_killed_costs_only_its_own_connections(instance: Instance) -> None:
    """Workers share the listening socket: while one lives, clients are served."""
    with RelayWorker() as first, RelayWorker(listener=first.listener) as second, Greeter("alive") as alive:
        for worker in (first, second):
            worker.apply(endpoint("alive", alive))
        first.process.kill()
        first.process.wait()
        assert {ask(first.address) for _ in range(50)} == {"alive"}
        assert first.ended.wait(5)


def test_C12_fd_exhaustion(instance: Instance) -> None:
    """1,000 clients and 256 files: nobody is accepted and then closed, all are served as soon as there is room."""
    with RelayWorker(prefix=["prlimit", "--nofile=256:256"]) as relay:
        relay.apply(endpoint("one", instance))
        clients = [connect(relay.address) for _ in range(1000)]
        served = [instance.accept()]
        eventually(lambda: relay.open_files() > 150, what="the worker is full")
        instance.sock.settimeout(0.3)
        try:
            while True:
                served.append(instance.accept())
        except TimeoutError:
            pass
        assert 60 <= len(served) <= 128
        poll = select.poll()
        for client in clients:
            poll.register(client, select.POLLIN | select.POLLRDHUP)
        assert poll.poll(0) == []
        instance.sock.settimeout(5.0)
        for server in served:
            server.sendall(b"!")
            server.close()
        for _ in range(1000 - len(served)):
            for fd, _ in poll.poll(1000):  # clients leave when they are answered, and make room for others
                client = next(client for client in clients if client.fileno() == fd)
                assert client.recv(1) == b"!"
                poll.unregister(client)
                client.close()
            with instance.accept() as server:
                server.sendall(b"!")
        assert any("no more fit" in line for line in relay.log)
        eventually(lambda: relay.counter("no_room") > 0)  # and each time is counted


def test_C13_accept_errno_einval_ends_the_worker_aloud(relay: RelayWorker) -> None:
    """A listening socket that somebody shut down answers accept(2) with EINVAL: said, and the process ends with 1."""
    began = time.monotonic()
    relay.listener.shutdown(socket.SHUT_RD)
    assert relay.process.wait(5) == 1
    assert time.monotonic() - began < 5
    eventually(lambda: any("this listener is broken" in line for line in relay.log))


def test_what_a_worker_cannot_understand_ends_it_aloud(relay: RelayWorker) -> None:
    relay.control.sendall(b"\x00\x00\x00\x02{}")
    assert relay.process.wait(5) == 1
    eventually(lambda: any("not a message" in line for line in relay.log))


def _listens(relay: RelayWorker) -> bool:
    """Whether the worker still has a listening socket on its port."""
    links = []
    for link in Path(f"/proc/{relay.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            links.append(link.readlink().name)
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = [row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{relay.address[1]:04X}")]
    return any(f"socket:[{inode}]" in links for inode in listening)
