"""Caps: how many connections a client address may have, and how many an instance gets, through real workers."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ambnet.relay.limits import Limits, shared
from tests.support.relay_peers import (
    PATIENCE,
    Greeter,
    Instance,
    black_hole,
    connect,
    in_thread,
    refusing,
    reset,
    talking,
    was_reset,
)
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.waiting import eventually


@pytest.fixture
def two() -> Iterator[tuple[Instance, Instance]]:
    with Instance() as one, Instance() as other:
        yield one, other


def refused(relay: RelayWorker, words: bytes = b"") -> bool:
    """Whether a new client is reset, as early as in its connect or as late as in its first read."""
    try:
        with connect(relay.address) as client:
            client.sendall(words)
            return was_reset(client)
    except ConnectionError:
        return True


class Counting:
    """Answers each byte, and knows how many connections there were at once."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: tuple[str, int] = self.sock.getsockname()
        self.open = self.most = self.served = 0
        self._lock = threading.Lock()
        in_thread(self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self.sock.accept()
                with self._lock:
                    self.open += 1
                    self.most = max(self.most, self.open)
                in_thread(lambda connection=connection: self._answer(connection))  # type: ignore[misc]

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while byte := connection.recv(1):
                with self._lock:
                    self.served += 1
                connection.sendall(byte)
            with self._lock:
                self.open -= 1  # before its FIN, which is what the relay goes by

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


# --- per source -------------------------------------------------------------------------------------------------------


def test_a_source_that_has_its_fill_is_reset_and_others_are_served() -> None:
    with RelayWorker(max_per_source=3) as relay, Instance() as one:
        relay.apply(endpoint("one", one))
        mine = [talking(relay, one) for _ in range(3)]
        assert refused(relay)
        with socket.create_connection(relay.address, PATIENCE, ("127.0.0.2", 0)) as other, one.accept() as server:
            other.sendall(b"?")
            assert server.recv(1) == b"?"
        for sock in mine.pop():
            sock.close()
        eventually(lambda: relay.connections == 2, what="room for one more")
        talking(relay, one)
        eventually(lambda: relay.counter("source_full") == 1)
        assert sum("has 3 connections" in line for line in relay.log) == 1


def test_whoever_leaves_while_it_waits_leaves_a_place_of_its_source() -> None:
    with RelayWorker(max_per_source=1) as relay, Greeter("late") as late:
        client = connect(relay.address)
        eventually(lambda: relay.service.parked == 1)
        assert refused(relay)
        reset(client)
        eventually(lambda: relay.connections == 0)
        client = connect(relay.address)
        relay.apply(endpoint("late", late))
        assert client.recv(10) == b"late"


def test_the_source_is_whom_a_header_names() -> None:
    with RelayWorker(max_per_source=1, setup={"accept_proxy": ("127.0.0.0/8",)}) as relay, Instance() as one:
        relay.apply(endpoint("one", one))
        for source in ("192.0.2.1", "192.0.2.2"):
            connect(relay.address).sendall(f"PROXY TCP4 {source} 192.0.2.9 1024 80\r\n?".encode())
            assert one.accept().recv(1) == b"?"
        assert refused(relay, b"PROXY TCP4 192.0.2.1 192.0.2.9 1025 80\r\n?")


# --- per instance -----------------------------------------------------------------------------------------------------


def test_a_full_instance_is_passed_over(two: tuple[Instance, Instance]) -> None:
    with RelayWorker(max_per_instance=2) as relay:
        relay.apply(endpoint("one", two[0]), endpoint("other", two[1], weight=100))
        held = [connect(relay.address) for _ in range(4)]
        assert len([each.accept() for each in (*two, *two)]) == len(held)
        eventually(lambda: relay.counter("instance_full") >= 1)


def test_when_all_are_full_clients_wait_and_are_let_in_in_the_order_they_came(two: tuple[Instance, Instance]) -> None:
    with RelayWorker(max_per_instance=1) as relay:
        relay.apply(*(endpoint(name, each) for name, each in zip("ab", two, strict=True)))
        held = [(connect(relay.address), each.accept()) for each in two]
        waiting = [connect(relay.address) for _ in range(4)]
        for number, client in enumerate(waiting):
            client.sendall(b"%d" % number)
        eventually(lambda: relay.service.parked == 4)
        order = []
        for turn in range(4):
            for sock in held.pop(0):
                sock.close()
            server = two[turn % 2].accept()
            order.append(server.recv(1))
            held.append((waiting[turn], server))
        assert order == [b"0", b"1", b"2", b"3"]
        assert relay.counter("parked") == 4


def test_no_more_wait_for_a_place_than_the_bound_says_nor_longer() -> None:
    with RelayWorker(max_per_instance=1, park_max=2, park=2.0) as relay, Instance() as one:
        relay.apply(endpoint("one", one))
        talking(relay, one)
        waiting = [connect(relay.address) for _ in range(2)]
        assert refused(relay)
        assert all(was_reset(client) for client in waiting)
        eventually(lambda: (relay.counter("park_refused"), relay.counter("park_expired")) == (1, 2))


def test_a_place_is_taken_while_its_answer_is_waited_for_and_free_when_none_comes() -> None:
    """So the second client asks when the first has given up, and not before."""
    patience: dict[str, Any] = {"connect_timeout": 0.5, "connect_budget": 0.5, "retry": 0.0}
    with RelayWorker(max_per_instance=1, **patience) as relay, black_hole() as hole:
        relay.apply(endpoint("hole", hole))
        began = time.monotonic()
        clients = [connect(relay.address) for _ in range(2)]
        assert all(was_reset(client) for client in clients)
        assert time.monotonic() - began >= 0.95
        eventually(lambda: relay.instance("hole").connect_failures == 2)


def test_one_that_refuses_beside_a_full_one_fails_nobody() -> None:
    with RelayWorker(max_per_instance=1, retry=0.2) as relay, Instance() as one:
        relay.apply(endpoint("one", one), endpoint("stale", refusing()))
        held = talking(relay, one)
        client = connect(relay.address)
        client.sendall(b"patient")
        eventually(lambda: relay.service.parked == 1, what="it has given up the stale one")
        for sock in held:
            sock.close()
        assert one.accept().recv(10) == b"patient"


def test_an_ill_instance_is_not_asked_while_a_well_one_is_full(two: tuple[Instance, Instance]) -> None:
    one, ill = two
    with RelayWorker(max_per_instance=1) as relay:
        relay.apply(endpoint("one", one), endpoint("ill", ill)._replace(healthy=False))
        held = talking(relay, one)
        client = connect(relay.address)
        client.sendall(b"next")
        eventually(lambda: relay.service.parked == 1)
        for sock in held:
            sock.close()
        assert one.accept().recv(10) == b"next"


def test_an_instance_that_comes_takes_those_who_wait(two: tuple[Instance, Instance]) -> None:
    old, new = two
    with RelayWorker(max_per_instance=2) as relay:
        relay.apply(endpoint("old", old))
        held = [talking(relay, old) for _ in range(2)]
        waiting = [connect(relay.address) for _ in range(3)]
        eventually(lambda: relay.service.parked == 3)
        relay.apply(endpoint("old", old), endpoint("new", new))
        for client in waiting[:2]:
            client.sendall(b"!")
            assert new.accept().recv(1) == b"!"
        eventually(lambda: relay.service.parked == 1)
        assert len(held) == 2


def test_a_crowd_is_served_within_both_caps() -> None:
    """Forty at a time come and go, four hundred in all: nobody fails, and never has an instance more than its three."""
    counting = [Counting(), Counting()]
    with RelayWorker(max_per_instance=3, max_per_source=100) as relay, ThreadPoolExecutor(40) as pool:
        relay.apply(*(endpoint(name, each.address) for name, each in zip("ab", counting, strict=True)))

        def visit(_number: int) -> bytes:
            with socket.create_connection(relay.address, PATIENCE) as client:
                client.sendall(b"?")
                return client.recv(1)

        assert list(pool.map(visit, range(400))) == [b"?"] * 400
        eventually(lambda: relay.connections == 0)
        assert all(1 <= each.most <= 3 for each in counting)
        assert sum(each.served for each in counting) == 400
        assert (relay.counter("source_full"), relay.counter("park_expired")) == (0, 0)
    for each in counting:
        each.close()


def test_after_a_storm_every_place_is_free_again() -> None:
    """Clients that come and go at any moment, instances that refuse, fall silent and are taken away: nothing is left
    over of what was counted.
    """
    chance, counting = random.Random(7), [Counting(), Counting()]
    rows = [endpoint(name, each.address) for name, each in zip("ab", counting, strict=True)]
    settings: dict[str, Any] = {"max_per_instance": 2, "max_per_source": 20, "connect_timeout": 0.3, "park": 3.0}
    with RelayWorker(**settings) as relay, black_hole() as hole:
        troubles = [endpoint("hole", hole), endpoint("stale", refusing())]
        with contextlib.ExitStack() as stack:
            here: list[socket.socket] = []
            for turn in range(600):
                if turn % 60 == 0:
                    relay.apply(*chance.sample(rows, turn // 60 % 3), *chance.sample(troubles, chance.randint(0, 2)))
                with contextlib.suppress(OSError):  # a source that has its fill
                    here.append(stack.enter_context(connect(relay.address)))
                    here[-1].sendall(b"?")
                for _ in range(chance.randint(0, 2)):
                    if here:
                        leaving = here.pop(chance.randrange(len(here)))
                        (reset if chance.random() < 0.5 else socket.socket.close)(leaving)
        eventually(lambda: relay.counter("accepted") == 600 and relay.connections == 0)
        relay.apply(*rows)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(relay.address)) for _ in range(20)]
            for client in clients:
                client.sendall(b"?")
            answered = {client for client in clients[:4] if client.recv(1) == b"?"}
            assert len(answered) == 4, "every place is free, and they were first"
            assert refused(relay), "the source has its twenty"
            for client in clients[:4]:
                client.close()
            assert [client.recv(1) for client in clients[4:8]] == [b"?"] * 4
    for each in counting:
        each.close()


def test_workers_share_out_what_an_instance_gets_and_not_what_a_source_may_have() -> None:
    limits = Limits(max_per_source=5, max_per_instance=10)
    parts = [shared(limits, 4, slot) for slot in range(4)]
    assert [part.max_per_instance for part in parts] == [3, 3, 2, 2]
    assert {part.max_per_source for part in parts} == {5}
    assert shared(Limits(), 4, 0) == Limits()
