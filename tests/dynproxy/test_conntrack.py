"""Connection tracking on the real kernel: a client, a proxy that translates addresses, a server of many instances."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynproxy import conntrack
from dynproxy.conntrack import (
    ESTABLISHED,
    SYN_SENT,
    Ends,
    Flow,
    Which,
    count,
    decode,
    delete_all,
    delete_ended,
    delete_unanswered,
)
from dynproxy.netlink import ATTRIBUTE, NetlinkError, attributes, messages
from tests.support.hosts import Host, Hosts
from tests.support.waiting import eventually

pytestmark = pytest.mark.netns

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
EXACTLY = 0xFFFFFFFF
PORT = 80


def mark(instance: int) -> int:
    return 0xA3B00000 | instance


def rules(instance: int) -> str:
    """Whoever comes to the proxy's port is sent to this instance, or to nobody if it is 0."""
    text = ""
    for family, many, proxy in (("ip", "10.78.0.", "10.77.1.1"), ("ip6", "fd78::", "fd77:1::1")):
        chosen = f"{family} daddr {proxy} th dport {PORT} ct mark set {mark(instance)} dnat to {many}{instance}"
        text += f"""
            add table {family} hand
            delete table {family} hand
            table {family} hand {{
                chain before {{
                    type nat hook prerouting priority -105
                    meta l4proto {{ tcp, udp }} {chosen if instance else "accept"}
                }}
                chain after {{
                    type nat hook postrouting priority 95
                    ct mark & 0xfff00000 == 0xa3b00000 masquerade
                }}
            }}"""
    return text


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts() as hosts:
        hosts.proxy.nft(rules(1))
        yield hosts


class Connection(contextlib.ExitStack):
    """A TCP connection of the client through the proxy to one of the instances; both ends of it."""

    def __init__(self, hosts: Hosts, instance: int = 1, version: int = 4) -> None:
        super().__init__()
        hosts.proxy.nft(rules(instance))
        with hosts.server.listen((hosts.instance(instance, version), PORT)) as listener:
            to = hosts.proxy.ipv4 if version == 4 else hosts.proxy.ipv6
            self.client = self.enter_context(hosts.client.connect((to, PORT)))
            self.server = self.enter_context(listener.accept()[0])
            self.server.settimeout(self.client.gettimeout())

    def works(self) -> bool:
        self.client.sendall(b"?")
        self.server.sendall(self.server.recv(1))
        return self.client.recv(1) == b"?"


def one(instance: int, protocol: int | None = None, family: int = socket.AF_INET) -> Which:
    return Which(family, frozenset({mark(instance)}), EXACTLY, protocol)


def flows(host: Host, which: Which) -> list[Flow]:
    return host.call(lambda: list(conntrack.flows(which)))


def do(host: Host, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return host.call(lambda: asyncio.run(work()))


@pytest.mark.parametrize("version", [4, 6])
def test_a_flow_says_who_talks_to_whom_and_which_instance_really_answers(hosts: Hosts, version: int) -> None:
    proxy, client, server = (
        (host.ipv4 if version == 4 else host.ipv6) for host in (hosts.proxy, hosts.client, hosts.server)
    )
    outside = server[:-1] + "1"  # the proxy as the server sees it
    with Connection(hosts, version=version) as connection:
        assert connection.works()
        (flow,) = flows(hosts.proxy, one(1, family=socket.AF_INET if version == 4 else socket.AF_INET6))
        source, seen = connection.client.getsockname()[1], connection.server.getpeername()[1]
    assert flow.protocol == socket.IPPROTO_TCP
    assert flow.original == Ends(client, source, proxy, PORT)
    assert flow.reply == Ends(hosts.instance(1, version), PORT, outside, seen)
    assert flow.mark == mark(1)
    assert flow.tcp_state == ESTABLISHED
    assert flow.answered
    assert flow.established
    assert flow.timeout is not None
    assert flow.timeout > 3600


def test_only_what_bears_the_mark_is_listed_counted_and_deleted(hosts: Hosts) -> None:
    """Somebody else's connections through the same host go on."""
    with (
        Connection(hosts, 1) as meant,
        Connection(hosts, 2) as other,
        hosts.server.listen((hosts.server.ipv4, PORT)) as listener,
        hosts.client.connect((hosts.server.ipv4, PORT)) as foreign,
        listener.accept()[0] as accepted,
    ):
        ours = Which(socket.AF_INET, frozenset({mark(1), mark(2), mark(3)}), EXACTLY)
        assert do(hosts.proxy, partial(count, ours)) == {mark(1): 1, mark(2): 1}
        hosts.proxy.nft(rules(0))
        assert do(hosts.proxy, partial(delete_all, one(1))) == 1
        assert other.works()
        foreign.sendall(b"!")
        assert accepted.recv(1) == b"!"
        meant.client.sendall(b"!")
        with pytest.raises(ConnectionResetError):
            meant.client.recv(1)
        assert do(hosts.proxy, partial(count, ours)) == {mark(2): 1}


def test_the_port_that_clients_came_to_tells_two_proxies_in_one_namespace_apart(hosts: Hosts) -> None:
    with Connection(hosts):
        for ports, there in (({PORT}, 1), ({PORT + 1}, 0), ({PORT, PORT + 1}, 1)):
            which = Which(socket.AF_INET, frozenset({mark(1)}), EXACTLY, ports=frozenset(ports))
            assert do(hosts.proxy, partial(count, which)).total() == there


def test_a_mask_takes_a_range_of_marks(hosts: Hosts) -> None:
    with Connection(hosts, 1), Connection(hosts, 2):
        ours = Which(socket.AF_INET, frozenset({0xA3B00000}), 0xFFF00000)
        assert do(hosts.proxy, partial(count, ours)) == {0xA3B00000: 2}


def test_counting_what_goes_on_leaves_out_what_has_ended_or_not_begun(hosts: Hosts) -> None:
    hosts.server.nft("table ip hole { chain in { type filter hook input priority 0; ip daddr 10.78.0.3 drop\n}\n}\n")
    with Connection(hosts, 1) as half, Connection(hosts, 1) as whole, swallowed(hosts, 3):
        half.client.shutdown(socket.SHUT_WR)
        assert half.server.recv(1) == b""
        assert whole.works()
        with Connection(hosts, 1) as ended:
            assert ended.works()
        ours = Which(socket.AF_INET, frozenset({0xA3B00000}), 0xFFF00000)
        assert do(hosts.proxy, partial(count, ours)) == {0xA3B00000: 4}
        eventually(lambda: do(hosts.proxy, partial(count, ours, established=True)) == {0xA3B00000: 2})


def test_forgetting_what_is_over_leaves_what_goes_on_and_what_has_not_begun(hosts: Hosts) -> None:
    hosts.server.nft("table ip hole { chain in { type filter hook input priority 0; ip daddr 10.78.0.3 drop\n}\n}\n")
    ours = Which(socket.AF_INET, frozenset({0xA3B00000}), 0xFFF00000)
    with Connection(hosts, 1) as half, Connection(hosts, 1) as whole, swallowed(hosts, 3):
        half.client.shutdown(socket.SHUT_WR)
        assert half.server.recv(1) == b""
        with Connection(hosts, 1) as ended:
            assert ended.works()
        eventually(lambda: do(hosts.proxy, partial(delete_ended, ours)) == 1)
        assert do(hosts.proxy, partial(count, ours)) == {0xA3B00000: 3}
        assert whole.works()


@contextlib.contextmanager
def swallowed(hosts: Hosts, instance: int) -> Iterator[socket.socket]:
    """A client whose SYN went to an instance that does not answer."""
    hosts.proxy.nft(rules(instance))
    with hosts.client.call(socket.socket) as waiting:
        waiting.setblocking(False)
        assert waiting.connect_ex((hosts.proxy.ipv4, PORT)) == errno.EINPROGRESS
        eventually(lambda: [flow.tcp_state for flow in flows(hosts.proxy, one(instance))] == [SYN_SENT])
        waiting.settimeout(20)
        yield waiting


def test_a_swallowed_attempt_that_is_forgotten_goes_to_the_next_instance(hosts: Hosts) -> None:
    """The client's own retransmission is balanced anew; without the deletion it would follow its entry for minutes."""
    hosts.server.nft(
        "table ip hole { chain in { type filter hook input priority 0; ip daddr 10.78.0.1 tcp flags syn drop\n}\n}\n"
    )
    with hosts.server.listen((hosts.instance(2), PORT)) as listener, swallowed(hosts, 1) as waiting:
        hosts.proxy.nft(rules(2))
        assert do(hosts.proxy, partial(delete_unanswered, one(1))) == 1
        with listener.accept()[0] as accepted:
            assert waiting.send(b"!") == 1
            assert accepted.recv(1) == b"!"


def test_forgetting_attempts_leaves_connections_alone(hosts: Hosts) -> None:
    with Connection(hosts) as connection:
        assert do(hosts.proxy, partial(delete_unanswered, one(1))) == 0
        assert connection.works()


def test_C11_a_udp_flow_moves_with_the_first_packet_after_the_deletion(hosts: Hosts) -> None:
    """Control: without it the flow stays where it was."""
    first, second = (hosts.server.datagrams((hosts.instance(number), PORT)) for number in (1, 2))
    sender = hosts.client.datagrams((hosts.client.ipv4, 0), (hosts.proxy.ipv4, PORT))
    with first, second, sender:
        sender.send(b"one")
        assert first.recv(9) == b"one"
        hosts.proxy.nft(rules(2))
        sender.send(b"still")
        assert first.recv(9) == b"still"
        assert do(hosts.proxy, partial(delete_all, one(1, socket.IPPROTO_TCP))) == 0
        assert do(hosts.proxy, partial(delete_all, one(1, socket.IPPROTO_UDP))) == 1
        sender.send(b"moved")
        assert second.recv(9) == b"moved"


def test_deleting_what_is_gone_is_fine_and_what_has_another_id_is_not_hit(hosts: Hosts) -> None:
    """The same addresses and ports may be in use again by the time we get there."""
    with (
        hosts.server.datagrams((hosts.instance(1), PORT)) as instance,
        hosts.client.datagrams((hosts.client.ipv4, 0), (hosts.proxy.ipv4, PORT)) as sender,
    ):
        sender.send(b"!")
        assert instance.recv(1) == b"!"
        (flow,) = flows(hosts.proxy, one(1))
        last = flow.key[-1] ^ 1  # the id is at the end
        successor = replace(flow, key=flow.key[:-1] + bytes([last]))
        assert hosts.proxy.call(lambda: conntrack.delete(socket.AF_INET, [successor])) == 0
        assert hosts.proxy.call(lambda: conntrack.delete(socket.AF_INET, [flow])) == 1
        assert hosts.proxy.call(lambda: conntrack.delete(socket.AF_INET, [flow])) == 0


@pytest.mark.parametrize("after", [0, 2])
class TestWhatTheEndsOfACutConnectionSee:
    """A packet of it is one without a connection then, and whoever gets it answers with a reset.

    That is our host, or the instance that is in the map now.
    """

    def test_a_client_that_sends_is_reset_at_once(self, hosts: Hosts, after: int) -> None:
        with Connection(hosts) as connection:
            self.cut(hosts, after)
            connection.client.sendall(b"?")
            with pytest.raises(ConnectionResetError):
                connection.client.recv(1)

    def test_an_instance_that_sends_is_reset_at_once(self, hosts: Hosts, after: int) -> None:
        with Connection(hosts) as connection:
            self.cut(hosts, after)
            connection.server.sendall(b"!")
            with pytest.raises(ConnectionResetError):
                connection.server.recv(1)

    def test_a_client_that_only_reads_is_told_nothing_until_it_sends(self, hosts: Hosts, after: int) -> None:
        with Connection(hosts) as connection:
            self.cut(hosts, after)
            connection.server.sendall(b"!")
            with pytest.raises(ConnectionResetError):
                connection.server.recv(1)
            connection.client.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.client.recv(1)

    @staticmethod
    def cut(hosts: Hosts, after: int) -> None:
        hosts.proxy.nft(rules(after))
        assert do(hosts.proxy, partial(delete_all, one(1))) == 1


def test_while_the_rules_still_lead_there_a_cut_connection_goes_on(hosts: Hosts) -> None:
    """So the rules must change first: the kernel takes a packet from the middle of a connection for a new one."""
    with Connection(hosts) as connection:
        assert do(hosts.proxy, partial(delete_all, one(1))) == 1
        assert connection.works()


def test_many_are_deleted_while_they_are_listed(hosts: Hosts) -> None:
    """More than one answer holds, and more than one batch."""
    with hosts.server.datagrams((hosts.instance(1), PORT)):
        for _ in range(1000):
            with hosts.client.datagrams((hosts.client.ipv4, 0), (hosts.proxy.ipv4, PORT)) as sender:
                sender.send(b"!")
        there = do(hosts.proxy, partial(count, one(1)))[mark(1)]
        assert there > 500  # the system gives some ports twice
        assert do(hosts.proxy, partial(delete_all, one(1))) == there
        assert flows(hosts.proxy, one(1)) == []


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [("-all,+net_admin", "0 entries"), ("-net_admin", "Operation not permitted (it needs CAP_NET_ADMIN)")],
)
def test_it_needs_one_capability_and_no_more(hosts: Hosts, capabilities: str, said: str) -> None:
    program = (
        "import socket\nfrom dynproxy.conntrack import *\nfrom dynproxy.netlink import NetlinkError\n"
        "which = Which(socket.AF_INET, frozenset({1}), 1)\n"
        "try: print(delete(which.family, flows(which)), 'entries')\nexcept NetlinkError as error: print(error)\n"
    )
    strip = ("setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}")
    process = hosts.proxy.popen(*strip, sys.executable, "-c", program, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert said in process.communicate(timeout=60)[0]


@given(st.frozensets(st.integers(0, EXACTLY), min_size=1, max_size=5), st.integers(0, EXACTLY))
def test_what_the_kernel_is_asked_for_includes_every_mark(marks: frozenset[int], mask: int) -> None:
    marks = frozenset(each & mask for each in marks)
    body = conntrack._filter(Which(socket.AF_INET, marks, mask))
    asked = {kind: struct.unpack("!L", body[first:last])[0] for kind, first, last in attributes(body, 0, len(body))}
    value, bits = asked[conntrack.MARK], asked[conntrack.MARK_MASK]
    assert all(each & bits == value for each in marks)
    if len(marks) == 1:
        assert bits == mask


def test_nobodys_connections_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="whose"):
        list(conntrack.flows(Which(socket.AF_INET, frozenset(), EXACTLY)))


@given(st.lists(st.tuples(st.integers(0, 30), st.binary(max_size=30)), max_size=8), st.binary(max_size=8))
def test_no_bytes_break_the_reading(pieces: list[tuple[int, bytes]], rest: bytes) -> None:
    """They are the kernel's, but another kernel's perhaps: an error, never an endless loop or a stray exception."""
    data = b"".join(ATTRIBUTE.pack(4 + len(each), kind) + each + bytes(-len(each) % 4) for kind, each in pieces) + rest
    with contextlib.suppress(ValueError, struct.error):
        flow = decode(data, 0, len(data))
        assert flow.protocol >= 0
        assert flow.reply.source_port >= 0
    with contextlib.suppress(ValueError):
        assert all(end <= len(data) for _, _, _, end in messages(data))


def test_an_error_carries_the_kernels_number_and_words() -> None:
    error = NetlinkError("connection tracking", "No such file or directory", errno.ENOENT)
    assert error.errno == errno.ENOENT
    assert str(error) == "connection tracking: No such file or directory"
