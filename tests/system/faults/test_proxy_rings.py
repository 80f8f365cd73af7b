"""Instances that are proxies which lead back: a client must not go round for ever, nor fill them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.relay_peers import was_reset
from tests.support.waiting import eventually
from tests.system.kernel_hosts import PORTS, KernelProxy, Stage

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

CAP = 200


def open_files(proxy: KernelProxy) -> int:
    """How many files the processes that carry bytes have open."""
    workers = proxy.status()["plane"]["processes"]
    return sum(len(os.listdir(Path("/proc", str(pid), "fd"))) for pid in workers)  # noqa: PTH208 - it counts


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.long)])
def test_C25_a_ring_of_proxies_is_bounded(stage: Stage, figure: Figure, size: int) -> None:
    """Each has the next one for its only instance: one client would fill all of them. It is reset once it has filled
    half of one and used up its hops, and nothing is left of it.
    """
    ports = [stage.port, *(next(PORTS) for _ in range(size - 1))]
    names = [f"ring{port}" for port in ports]
    options = ("--plane", "relay", "--max-connections", str(CAP), "--check-interval", "0")
    with ExitStack() as stack:
        proxies = []
        for here, name in enumerate(names):
            stage.registry.put(name, "next", stage.hosts.proxy.ipv4, ports[(here + 1) % size])
            proxies.append(stack.enter_context(KernelProxy(stage, {ports[here]: name}, *options)))
        for proxy, name in zip(proxies, names, strict=True):
            proxy.wait_serving(name, "next", plane="relay")
        before = [open_files(proxy) for proxy in proxies]
        began = time.monotonic()
        with contextlib.closing(stage.hosts.client.connect(stage.to)) as client:
            assert was_reset(client, 10)
        told = time.monotonic() - began
        eventually(lambda: all(map(int.__le__, map(open_files, proxies), before)), 10, "all of it has gone")
        gone = time.monotonic() - began

        def counted(what: str) -> int:
            counters = (proxy.service(name)["counters"] for proxy, name in zip(proxies, names, strict=True))
            return sum(each[what] for each in counters)

        eventually(lambda: counted("went_round") >= 1, 10, "it is counted")
        passed = counted("accepted")
        assert all(proxy.process.poll() is None for proxy in proxies)
    figure(f"{size} in a ring: passed on {passed} times, reset after {told:.2f} s, no file left after {gone:.2f} s")
    assert passed <= size * (CAP / 2 + 64)


def test_C25_a_datagram_in_a_ring_of_proxies_comes_to_its_end(stage: Stage, figure: Figure) -> None:
    """To each proxy it is a client of its own each time: without an end to its hops one would go round for ever."""
    other = next(PORTS)
    names = {stage.port: f"ring{stage.port}", other: f"ring{other}"}
    for port, name in names.items():
        to = other if port == stage.port else stage.port
        stage.registry.put(name, "next", stage.hosts.proxy.ipv4, to, protocol="udp")
    options = ("--plane", "relay", "--udp-sessions", str(CAP))
    with ExitStack() as stack:
        proxies = {
            name: stack.enter_context(KernelProxy(stage, {port: name}, *options)) for port, name in names.items()
        }
        for name, proxy in proxies.items():
            proxy.wait_serving(name, "next", plane="relay")
        with stage.hosts.client.datagrams((stage.hosts.client.ipv4, 0), stage.to) as client:
            client.send(b"round and round")

            def counted(what: str) -> int:
                return sum(proxy.service(name)["counters"].get(what, 0) for name, proxy in proxies.items())

            eventually(lambda: counted("udp_went_round") == 1, 20, "its hops are used up")
            passed = counted("udp_sessions")
    figure(f"2 in a ring: a datagram was passed on {passed} times, then dropped")
    assert passed <= CAP + 2 * 64
