"""Answers leave from the address that was asked, on a host that has several of both families; and what routers say."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ambnet.relay.sockets import open_datagrams
from ambnet.relay.upstream import Endpoint
from tests.support.answering import Datagrams
from tests.support.hosts import Hosts
from tests.support.relay_worker import RelayWorker
from tests.support.udp_peers import UdpInstance
from tests.support.waiting import eventually

pytestmark = pytest.mark.netns

ANY4 = str(IPv4Address(0))
MORE4, MORE6 = "10.77.9.9", "fd77:9::9"  # addresses of the proxy that no interface towards the client has


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts() as made:
        made.proxy.run("ip", "address", "add", f"{MORE4}/32", "dev", "lo")
        made.proxy.run("ip", "address", "add", f"{MORE6}/128", "dev", "lo", "nodad")
        made.proxy.run("ip", "address", "add", "10.77.1.7/24", "dev", "client")
        yield made


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        *(("::", asked) for asked in ("10.77.1.1", "10.77.1.7", MORE4, "fd77:1::1", MORE6)),
        *((ANY4, asked) for asked in ("10.77.1.1", "10.77.1.7", MORE4)),
    ],
)
def test_an_answer_comes_from_the_address_that_was_asked(hosts: Hosts, listen: str, asked: str) -> None:
    """One socket for all of them; to IPv6's the IPv4 clients come, too. A connected client hears nobody else."""
    instance = hosts.instance(1)
    listener = hosts.proxy.call(lambda: open_datagrams(listen, 0)[0])
    source = hosts.client.ipv6 if ":" in asked else hosts.client.ipv4
    with (
        listener,
        Datagrams(hosts.server, (instance, 53)),
        RelayWorker(datagrams=True, listener=listener, prefix=hosts.proxy.prefix) as relay,
        hosts.client.datagrams((source, 0), (asked, listener.getsockname()[1])) as client,
    ):
        relay.apply(Endpoint("one", instance, 53))
        for _ in range(2):
            client.send(b"who?")
            assert client.recv(100).decode() == instance


def test_one_client_at_two_of_our_addresses_is_two(hosts: Hosts) -> None:
    """From one socket of the client's: each answer comes from where its question went."""
    listener = hosts.proxy.call(lambda: open_datagrams(None, 0)[0])
    port = listener.getsockname()[1]
    instance = hosts.instance(1)
    with (
        listener,
        Datagrams(hosts.server, (instance, 53)),
        RelayWorker(datagrams=True, listener=listener, prefix=hosts.proxy.prefix) as relay,
        hosts.client.datagrams((hosts.client.ipv4, 0)) as client,
    ):
        relay.apply(Endpoint("one", instance, 53))
        for asked in ("10.77.1.1", MORE4, "10.77.1.7", "10.77.1.1"):
            client.sendto(b"who?", (asked, port))
            assert client.recvfrom(100)[1] == (asked, port)
        eventually(lambda: relay.counter("udp_sessions") == 3)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        *((4, kind) for kind in ("host-unreachable", "net-unreachable", "admin-prohibited", "port-unreachable")),
        *((6, kind) for kind in ("addr-unreachable", "no-route", "admin-prohibited", "port-unreachable")),
    ],
)
def test_C23_whatever_a_router_says_sends_the_datagram_to_the_next_instance(
    hosts: Hosts, version: int, reason: str
) -> None:
    """A host or a net that cannot be reached are told only to who asks for it; see IP_RECVERR in ip(7)."""
    bad, good = hosts.instance(1, version), hosts.instance(2, version)
    match, kind = (f"ip daddr {bad}", "icmp") if version == 4 else (f"ip6 daddr {bad}", "icmpv6")
    rule = f"iifname eth0 {match} udp dport 53 reject with {kind} type {reason};"
    hosts.server.nft(f"table inet test {{ chain in {{ type filter hook input priority 0; {rule}\n}}\n}}")
    listener = hosts.proxy.call(lambda: open_datagrams(hosts.proxy.ipv4, 0)[0])
    with (
        listener,
        Datagrams(hosts.server, (bad, 53), (good, 53)),
        RelayWorker(datagrams=True, listener=listener, prefix=hosts.proxy.prefix) as relay,
        hosts.client.datagrams((hosts.client.ipv4, 0), relay.address) as client,
    ):
        relay.apply(Endpoint("bad", bad, 53), Endpoint("good", good, 53))
        client.send(b"who?")
        assert client.recv(100).decode() == good
        eventually(lambda: relay.counter("udp_moved") == 1)


def test_C23_a_host_that_is_gone_is_left_when_nobody_answers_for_its_address(hosts: Hosts) -> None:
    """After about three seconds of asking for it; the datagram waits that long and is not lost."""
    good = hosts.instance(2)
    listener = hosts.proxy.call(lambda: open_datagrams(hosts.proxy.ipv4, 0)[0])
    with (
        listener,
        Datagrams(hosts.server, (good, 53)),
        RelayWorker(datagrams=True, listener=listener, prefix=hosts.proxy.prefix) as relay,
        hosts.client.datagrams((hosts.client.ipv4, 0), relay.address) as client,
    ):
        relay.apply(Endpoint("gone", "10.77.2.99", 53), Endpoint("good", good, 53))
        client.settimeout(20)
        client.send(b"who?")
        assert client.recv(100).decode() == good


def test_an_error_that_is_not_the_instances_moves_nobody_and_costs_no_work(hosts: Hosts) -> None:
    """A router that finds a packet malformed: told to who asks, and over with. What is told must be fetched."""
    with UdpInstance() as bystander:
        listener = hosts.proxy.call(lambda: open_datagrams(hosts.proxy.ipv4, 0)[0])
        with (
            listener,
            RelayWorker(datagrams=True, listener=listener, prefix=hosts.proxy.prefix) as relay,
            hosts.server.datagrams((hosts.server.ipv4, 53)) as server,
            hosts.client.datagrams((hosts.client.ipv4, 0), relay.address) as client,
        ):
            relay.apply(Endpoint("one", hosts.server.ipv4, 53), Endpoint("other", *bystander.address))
            client.send(b"question")
            _, session = server.recvfrom(100)
            raw = hosts.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
            with raw:
                for _ in range(3):
                    raw.sendto(parameter_problem(session, server.getsockname()), (session[0], 0))
            before = cpu_seconds(relay.process.pid)
            time.sleep(0.5)
            assert cpu_seconds(relay.process.pid) - before < 0.25
            for _ in range(3):
                client.send(b"more")
                assert server.recvfrom(100) == (b"more", session)
            assert relay.counter("udp_refused") == 0


def parameter_problem(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """An ICMP message of type 12 about a datagram (RFC 792)."""
    ends = (socket.inet_aton(source[0]), socket.inet_aton(destination[0]))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 36, 0, 0, 64, socket.IPPROTO_UDP, 0, *ends)
    quoted = ip + struct.pack("!HHHH", source[1], destination[1], 16, 0)
    message = struct.pack("!BBHI", 12, 0, 0, 0) + quoted
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + message[4:]


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
