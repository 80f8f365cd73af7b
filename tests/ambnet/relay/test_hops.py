"""Hops: asked for and counted where a relay is crowded, nowhere else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ambnet.relay.hops import UNKNOWN, crowd, hops_left, hops_told, keep_hops, limit_hops, tell_hops
from tests.support.relay_peers import Instance, talking, was_reset
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.udp_peers import udp_socket
from tests.support.waiting import eventually


@contextlib.contextmanager
def accepted(host: str, hops: int, *, kept: bool = True) -> Iterator[socket.socket]:
    """The server's end of a connection whose client began with so many hops."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener, socket.socket(family) as client:
        if kept:
            keep_hops(listener)
        limit_hops(client, hops)
        client.connect(listener.getsockname()[:2])
        server, _ = listener.accept()
        with server:
            yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_client_comes_with_the_hops_that_it_has_left(host: str) -> None:
    with accepted(host, 7) as server:
        assert hops_left(server.fileno()) == 7
        assert hops_left(server.fileno()) == UNKNOWN, "the kernel says it once"


def test_whose_first_packet_was_not_kept_may_go_on() -> None:
    with accepted("127.0.0.1", 7, kept=False) as server:
        assert hops_left(server.fileno()) == UNKNOWN


@pytest.mark.parametrize(("fit", "counted_from"), [(100, 50), (2000, 1000), (9900, 1000), (1, 0)])
def test_hops_are_counted_from_half_of_the_room_or_a_thousand(fit: int, counted_from: int) -> None:
    assert crowd(fit) == counted_from


def test_a_crowded_relay_passes_a_client_on_with_one_hop_less_and_resets_one_without(instance: Instance) -> None:
    keep_hops(instance.sock)
    with RelayWorker(max_connections=4) as relay:
        relay.apply(endpoint("one", instance))
        assert [hops_of_next(relay, instance) for _ in range(4)] == [64, 64, 63, 63]
    with RelayWorker(max_connections=1) as relay, socket.socket() as client:
        relay.apply(endpoint("one", instance))
        limit_hops(client, 1)
        client.connect(relay.address)
        assert was_reset(client)
        eventually(lambda: relay.counter("went_round") == 1)
        assert any("lead back to here" in line for line in relay.log)


def hops_of_next(relay: RelayWorker, instance: Instance) -> int:
    """With how many hops the instance sees the next client, which stays."""
    _, server = talking(relay, instance)
    return hops_left(server.fileno())


@pytest.mark.parametrize(("bound", "host"), [("127.0.0.1", "127.0.0.1"), ("::", "::1"), ("::", "127.0.0.1")])
def test_a_datagram_says_its_hops_where_it_is_asked_for_them(bound: str, host: str) -> None:
    with udp_socket(bound) as server, udp_socket(host) as client:
        for asked in (False, True):
            if asked:
                tell_hops(server)
            limit_hops(client, 7)
            client.sendto(b"?", (host, server.getsockname()[1]))
            _, control, _, _ = server.recvmsg(100, 100)
            assert hops_told(control) == (7 if asked else UNKNOWN)
