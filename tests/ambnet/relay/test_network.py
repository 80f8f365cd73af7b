"""Networks that fail the relay: no port left to connect from, a peer that vanishes without a word."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from ambnet.relay.sockets import USER_TIMEOUT
from tests.support.netns import Namespace
from tests.support.relay_peers import Instance, connect, talking, was_reset
from tests.support.relay_worker import RelayWorker, endpoint
from tests.support.waiting import eventually

PORTS = 100


@pytest.fixture
def there() -> Iterator[Namespace]:
    """Where the worker and the instances are; clients are here, as a listening socket stays where it was made."""
    with Namespace() as namespace:
        yield namespace


def instance_in(there: Namespace) -> Instance:
    return Instance(sock=there.server(1024))


def test_C14_ports_exhausted(there: Namespace, figure: Callable[[str], None]) -> None:
    """No port is left towards one instance: others are asked, it is not blamed, and it is said and counted."""
    with instance_in(there) as full, instance_in(there) as other, RelayWorker(prefix=there.prefix) as relay:
        there.setting("net.ipv4.ip_local_port_range", f"20000 {20000 + PORTS - 1}")
        relay.apply(endpoint("full", full))
        held = [talking(relay, full) for _ in range(PORTS)]
        began = time.monotonic()
        assert was_reset(connect(relay.address))
        assert 0.9 < time.monotonic() - began < 3.0
        assert sum("Cannot assign requested address" in line for line in relay.log) == 1
        relay.apply(endpoint("full", full), endpoint("other", other))
        assert len([talking(relay, other) for _ in range(20)]) == 20
        eventually(lambda: relay.instance("other").connections == 20)
        assert relay.counter("local_errors") > 10
        figure(f"{PORTS} ports in use: 20 of 20 clients at the other instance, {relay.counter('local_errors')} counted")
        assert relay.instance("full").connect_failures == 0
        for sock in held.pop():
            sock.close()
        assert relay.process.poll() is None


def test_C20_vanished_peer(there: Namespace) -> None:
    """With bytes on their way to an instance that answers nothing any more, its client hears of it in 30 s."""
    with RelayWorker(prefix=there.prefix) as relay, instance_in(there) as instance:
        relay.apply(endpoint("one", instance))
        client, _server = talking(relay, instance)
        there.run("nft", "add table ip t; add chain ip t out { type filter hook output priority 0; policy drop; }")
        began = time.monotonic()
        client.sendall(b"is anybody there?")
        assert was_reset(client, timeout=45)
        assert USER_TIMEOUT / 1000 - 1 < time.monotonic() - began < USER_TIMEOUT / 1000 + 8
