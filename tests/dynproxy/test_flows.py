"""What becomes of connections that an instance's going leaves behind: waited for, cut, or forgotten."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from ambcore.model import Address, Protocol
from dynproxy import conntrack
from dynproxy.conntrack import Which
from dynproxy.flows import WHOLE_MARK, Flows, Those
from dynproxy.netlink import NetlinkError
from dynproxy.ruleset import Port, mark
from tests.support.answering import Answering, Conversation
from tests.support.hosts import Hosts
from tests.support.kernel_table import TCP80, KernelTable

pytestmark = pytest.mark.netns


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """This thread is on the proxy, whose kernel sends clients of port 80 to the server's instances 1 and 2."""
    with Hosts() as hosts, Answering(hosts.server, 8000), hosts.proxy.entered():
        yield hosts


@pytest.fixture
async def flows() -> AsyncIterator[Flows]:
    made = Flows()
    yield made
    await made.aclose()


@pytest.fixture
def rules(hosts: Hosts) -> KernelTable:
    made = KernelTable(hosts.proxy)
    made.serve(TCP80, Address(hosts.instance(1), 8000), Address(hosts.instance(2), 8000))
    return made


@pytest.fixture
def clients(hosts: Hosts, rules: KernelTable) -> Iterator[list[Conversation]]:
    """Four clients, two of each instance."""
    with ExitStack() as stack:
        yield [stack.enter_context(Conversation(hosts.client, (hosts.proxy.ipv4, 80))) for _ in range(4)]


def those(*endpoints: int, port: Port = TCP80) -> Those:
    return Those("ip", port, frozenset(map(mark, endpoints)))


def test_connections_are_meant_by_family_protocol_address_port_and_the_whole_mark() -> None:
    which = Flows("fd00::1")._which(Those("ip6", Port(Protocol.UDP, 53), frozenset({mark(7)})))
    marks, ports = frozenset({mark(7)}), frozenset({53})
    assert which == Which(socket.AF_INET6, marks, WHOLE_MARK, socket.IPPROTO_UDP, ports, "fd00::1")


async def test_connections_to_an_address_of_another_proxys_are_left_alone(
    hosts: Hosts, rules: KernelTable, clients: list[Conversation]
) -> None:
    """Both may use one port and the same marks."""
    other, ours = Flows("192.0.2.1"), Flows(hosts.proxy.ipv4)
    rules.serve(TCP80)
    await other.end(those(1, 2))
    assert await asyncio.wait_for(other.ended(["ip"], frozenset({80}), 60), 20) == 0
    assert all(client.echoes() for client in clients)
    await ours.end(those(1, 2))
    assert (other.cut, ours.cut) == (0, 4)


async def test_a_thread_that_cannot_be_had_is_a_failure_like_any_other(
    flows: Flows, clients: list[Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        await flows.forget_ended(["ip"], frozenset({80}))
        assert await flows.ended(["ip"], frozenset({80}), 60) == 0
        flows.beside(flows.end(those(1)))
        await asyncio.sleep(0.05)
    assert (flows.errors, flows.cut) == (3, 0)
    assert all(client.echoes() for client in clients)


async def test_only_the_connections_of_those_endpoints_are_ended(
    flows: Flows, hosts: Hosts, rules: KernelTable, clients: list[Conversation]
) -> None:
    first = hosts.instance(1)
    for nobody in (
        those(),
        those(9),
        those(1, 2, port=Port(Protocol.TCP, 81)),
        those(1, 2, port=Port(Protocol.UDP, 80)),
    ):
        await flows.end(nobody)
        await flows.forget_unanswered(nobody)
    await flows.forget_unanswered(those(1, 2))
    assert all(client.echoes() for client in clients)
    assert flows.cut == 0
    rules.serve(TCP80, Address(hosts.instance(2), 8000))  # else who is cut would be taken for new, and come again
    await flows.end(those(1))
    assert flows.cut == 2
    for client in clients:
        if client.at == first:
            with pytest.raises(ConnectionResetError):
                client.echoes()
        else:
            assert client.echoes()


async def test_an_attempt_that_ends_by_itself_at_once_is_not_forgotten_for_the_next_one_bears_its_name(
    flows: Flows, hosts: Hosts, rules: KernelTable
) -> None:
    """To the kernel both have one tuple and often one id: by the time of the deletion the client may be connected."""
    hosts.server.nft(
        "table ip hole { chain in { type filter hook input priority 0; ip daddr 10.78.0.1 tcp flags syn drop\n}\n}\n"
    )
    rules.serve(TCP80, Address(hosts.instance(1), 8000))
    with hosts.client.call(socket.socket) as client:
        client.setblocking(False)
        client.connect_ex((hosts.proxy.ipv4, 80))
        await asyncio.sleep(0.1)
        which = flows._which(those(1))
        (attempt,) = hosts.proxy.call(lambda: list(conntrack.flows(which)))
        assert attempt.timeout == 0, "in whole seconds"
        assert await conntrack.delete_unanswered(which) == 0


async def test_the_wait_is_over_with_the_last_connection(flows: Flows, clients: list[Conversation]) -> None:
    waiting = asyncio.create_task(flows.ended(["ip"], frozenset({80}), 60))
    await asyncio.sleep(0.1)
    for client in clients:
        assert not waiting.done()
        assert await asyncio.to_thread(client.echoes)
        client.close()
    assert await asyncio.wait_for(waiting, 20) == 0


async def test_the_wait_is_over_with_its_time_and_cuts_what_is_left(flows: Flows, clients: list[Conversation]) -> None:
    started = time.monotonic()
    clients[0].close()
    assert await flows.ended(["ip", "ip6"], frozenset({80}), 1) == 3
    assert 1 <= time.monotonic() - started < 10
    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(clients[1].echoes)


async def test_connections_to_other_ports_are_not_waited_for(flows: Flows, clients: list[Conversation]) -> None:
    assert await asyncio.wait_for(flows.ended(["ip"], frozenset({81}), 60), 20) == 0
    assert all(client.echoes() for client in clients)


async def test_what_fails_beside_is_counted_and_said(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        raise NetlinkError("connection tracking", "no")

    flows.beside(failing())
    await asyncio.sleep(0.05)
    assert flows.errors == 1
    assert caplog.messages == ["connections stay as they are: connection tracking: no"]


async def test_what_is_not_done_at_the_end_is_left_undone(flows: Flows) -> None:
    over: list[bool] = []

    async def long() -> None:
        await asyncio.sleep(60)
        over.append(True)

    flows.beside(long())
    await asyncio.sleep(0)
    await asyncio.wait_for(flows.aclose(), 5)
    await flows.aclose()
    assert not over
