"""Datagrams through a real dynproxy while instances come, go and die, and while strangers flood it."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from ambnet.relay.limits import Limits
from tests.support.hosts import Address, Host
from tests.support.udp_peers import SIZES, pattern
from tests.support.udp_server import FLOOD, WHO, UdpServer
from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Stage

pytestmark = [pytest.mark.system, pytest.mark.netns, pytest.mark.etcd]

SOURCES = 200_000  # of the flood
PACE = 10_000  # of them a second
FLOOD_NET = "10.99.0.0"
IP_PKTINFO = 8  # linux/in.h


@pytest.fixture
def one(stage: Stage) -> Iterator[UdpServer]:
    with UdpServer("one", stage.hosts.instance(31), 53, stage.hosts.server.prefix) as server:
        yield server


@pytest.fixture
def two(stage: Stage) -> Iterator[UdpServer]:
    with UdpServer("two", stage.hosts.instance(32), 53, stage.hosts.server.prefix) as server:
        yield server


def register(stage: Stage, *servers: UdpServer) -> None:
    for server in servers:
        stage.registry.put(stage.service, server.name, server.host, server.port, protocol="udp")


@contextmanager
def serving(stage: Stage, *servers: UdpServer, plane: str = "relay") -> Iterator[KernelProxy]:
    """A dynproxy on this plane that serves these."""
    register(stage, *servers)
    with stage.proxy("--plane", plane) as proxy:
        proxy.wait_serving(stage.service, *(server.name for server in servers), plane=plane)
        yield proxy


def client_of(stage: Stage, at: Address | None = None) -> socket.socket:
    return stage.hosts.client.datagrams((stage.hosts.client.ipv4, 0), at or stage.to)


def asked(client: socket.socket) -> str:
    client.send(WHO)
    return client.recv(100).decode()


@dataclass
class Sender:
    """Asks ten times a second from one port, in a thread, and notes when who answered."""

    client: socket.socket
    answers: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.client.settimeout(0.1)
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self.client.send(WHO)
                self.answers.append((time.monotonic(), self.client.recv(100).decode()))
            except (TimeoutError, ConnectionRefusedError):
                continue

    def heard_after(self, moment: float, *names: str) -> float:
        """Seconds from a moment to the first answer of one of these."""

        def found() -> float:
            return next((when - moment for when, name in list(self.answers) if when > moment and name in names), 0.0)

        return eventually(found, 20, f"an answer of {names}")

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()
        self.client.close()


@pytest.mark.parametrize("plane", ["relay", "kernel"])
def test_C11_pain_23_replies_resume_within_a_second_when_an_instance_is_removed(
    stage: Stage, one: UdpServer, two: UdpServer, plane: str
) -> None:
    """A sender of ten datagrams a second, always from the same port, hears the other one within a second."""
    with serving(stage, one, plane=plane), Sender(client_of(stage)) as sender:
        sender.heard_after(0, "one")
        register(stage, two)
        removed = time.monotonic()
        stage.registry.delete(stage.service, "one")
        assert sender.heard_after(removed, "two") < 1


@pytest.mark.parametrize("plane", ["relay", "kernel"])
def test_C11_pain_23_replies_resume_within_a_second_after_a_time_without_instances(
    stage: Stage, one: UdpServer, two: UdpServer, plane: str
) -> None:
    """On the kernel plane, too, the relay has the clients in between."""
    with serving(stage, one, plane=plane) as proxy, Sender(client_of(stage)) as sender:

        def dropped() -> int:
            count: int = proxy.service(stage.service)["counters"].get("udp_no_instance", 0)
            return count

        for server, other in ((one, two), (two, two), (two, one)):
            sender.heard_after(time.monotonic(), server.name)
            before = dropped()
            stage.registry.delete(stage.service, server.name)
            eventually(lambda: dropped() > before, 15, "nobody serves")  # noqa: B023 - called at once
            back = time.monotonic()
            register(stage, other)
            assert sender.heard_after(back, other.name) < 1


@pytest.mark.parametrize("plane", ["relay", "kernel"])
def test_C23_udp_sizes(stage: Stage, one: UdpServer, figure: Callable[[str], None], plane: str) -> None:
    with serving(stage, one, plane=plane), client_of(stage) as client:
        for size in SIZES:
            sent = pattern(size)
            client.send(sent)
            assert client.recv(1 << 17) == sent, f"{size} bytes"
    figure(f"{plane}: datagrams of {', '.join(map(str, SIZES))} bytes came back exact")


def test_C23_an_instance_that_is_killed_costs_no_datagram(stage: Stage, one: UdpServer, two: UdpServer) -> None:
    """Its host says by ICMP that nobody listens; what has met that is answered by the other one."""
    with serving(stage, one, two) as proxy, ExitStack() as stack:
        clients = [stack.enter_context(client_of(stage)) for _ in range(10)]
        assert sorted(map(asked, clients)) == ["one"] * 5 + ["two"] * 5
        one.kill()
        for _ in range(3):
            assert [asked(client) for client in clients] == ["two"] * 10
        eventually(lambda: proxy.service(stage.service)["counters"]["udp_moved"] >= 5)
        eventually(lambda: proxy.instance(stage.service, "one")["state"] == "ejected")
        assert proxy.metric("amb_relay_events_total", service=stage.service, event="udp_moved") >= 5


def test_C22_udp_flood(stage: Stage, one: UdpServer, figure: Callable[[str], None]) -> None:
    """200,000 sources that nobody hears of again; who talked before goes on talking, and no more are known at once."""
    here = stage.hosts.client
    here.run("ip", "route", "add", "local", f"{FLOOD_NET}/16", "dev", "lo")
    stage.hosts.proxy.run("ip", "route", "add", f"{FLOOD_NET}/16", "via", here.ipv4)
    try:
        with serving(stage, one) as proxy, ExitStack() as stack:
            clients = [stack.enter_context(client_of(stage)) for _ in range(20)]
            for client in clients * 2:
                assert asked(client) == "one"
            most, lost, questions = 0, 0, 0
            flood = threading.Thread(target=flood_from, args=(here, stage.to))
            flood.start()
            while flood.is_alive():
                for client in clients:
                    client.send(WHO)
                questions += len(clients)
                lost += sum(unanswered(client) for client in clients)
                most = max(most, proxy.instance(stage.service, "one")["connections"])
                time.sleep(0.05)
            flood.join()
            figure(f"{lost} of {questions} questions of known clients not answered; {most} clients known at most")
            assert questions >= 200
            assert lost <= questions / 100, f"{lost} of {questions} were not answered"
            assert most <= Limits().udp_sessions

            def met() -> int:
                counters = proxy.service(stage.service)["counters"]
                assert counters["udp_evicted"] >= counters["udp_sessions"] - Limits().udp_sessions
                assert counters["udp_errors"] == 0
                count: int = counters["udp_sessions"]
                return count

            eventually(lambda: met() >= SOURCES / 2, what="the flood was one")
    finally:
        here.run("ip", "route", "delete", "local", f"{FLOOD_NET}/16", "dev", "lo")


def unanswered(client: socket.socket) -> int:
    client.settimeout(3.0)  # a busy machine may be late; what is lost is lost
    try:
        client.recv(100)
    except TimeoutError:
        return 1
    return 0


def flood_from(host: Host, to: Address) -> None:
    """One datagram each from SOURCES addresses and ports, at PACE."""
    senders = [host.datagrams((str(socket.inet_ntoa(bytes(4))), 0)) for _ in range(SOURCES // 50_000)]
    first = struct.unpack("!I", socket.inet_aton(FLOOD_NET))[0]
    began = time.monotonic()
    for number in range(SOURCES):
        sender, source = senders[number // 50_000], struct.pack("!I", first + 1 + number % 50_000)
        control = (socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + source + bytes(4))
        sender.sendmsg([FLOOD], [control], 0, to)
        if number % 100 == 0 and (ahead := number / PACE - (time.monotonic() - began)) > 0:
            time.sleep(ahead)
    for sender in senders:
        sender.close()


def test_pain_24_a_session_lasts_a_minute_unless_told_and_each_service_may_have_its_own(
    stage: Stage, one: UdpServer
) -> None:
    other_port, other = stage.port + 10_000, f"{stage.service}-brief"
    register(stage, one)
    stage.registry.put(other, "one", one.host, one.port, protocol="udp")
    services = {stage.port: stage.service, other_port: other}
    options = ("--plane", "relay", "--udp-idle", f"{other}=0.5")
    with KernelProxy(stage, services, *options) as proxy, ExitStack() as stack:
        for service in services.values():
            proxy.wait_serving(service, "one", plane="relay")
        for port in services:
            assert asked(stack.enter_context(client_of(stage, (stage.to[0], port)))) == "one"
        eventually(lambda: proxy.service(other)["counters"]["udp_expired"] == 1)
        assert proxy.service(stage.service)["counters"]["udp_expired"] == 0
        assert proxy.instance(stage.service, "one")["connections"] == 1


# --- DNS ------------------------------------------------------------------------------------------------------------


@contextmanager
def resolver(host: Host, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real DNS server that knows one name, which it gives its own address as."""
    process = host.popen(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="),
        *("--bind-interfaces", f"--listen-address={address}", "--port=53", "--user=root", "--no-daemon"),
        *(f"--address=/who.example/{address}", "--local-ttl=0"),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def query(host: Host, to: Address, seconds: float = 3.0) -> str | None:
    """The address that a DNS server has for who.example, asked from a new port (RFC 1035); None without an answer."""
    number = random.randrange(1 << 16)
    question = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + b"\3who\7example\0" + struct.pack("!2H", 1, 1)
    with host.datagrams((host.ipv4, 0), to) as client:
        client.settimeout(seconds)
        try:
            client.send(question)
            answer = client.recv(512)
        except (TimeoutError, ConnectionRefusedError):
            return None
    count = struct.unpack("!6H", answer[:12])
    assert (count[0], count[3]) == (number, 1), "an answer to this question"
    return socket.inet_ntoa(answer[-4:])


@pytest.mark.parametrize("plane", ["relay", "kernel"])
def test_DNS_survives_the_death_of_one_of_two_servers_with_at_most_one_lost_query(stage: Stage, plane: str) -> None:
    """A query every 20 ms, each from a port of its own, while one of the servers is killed.

    The relay sends what met the refusal to the other one, though the record stays. The kernel loses it, once in the
    five seconds for which it remembers, until the record is gone; a registrar sees to that.
    """
    one, two = stage.hosts.instance(33), stage.hosts.instance(34)
    here = stage.hosts.client
    with resolver(stage.hosts.server, one) as victim, resolver(stage.hosts.server, two):
        for address in (one, two):
            eventually(lambda: query(here, (address, 53), 0.5), 10, f"dnsmasq at {address}")  # noqa: B023 - called at once
            stage.registry.put(stage.service, address, address, 53, protocol="udp")
        with stage.proxy("--plane", plane) as proxy:
            proxy.wait_serving(stage.service, one, two, plane=plane)
            assert {query(here, stage.to) for _ in range(6)} == {one, two}
            answers = []
            for number in range(150):
                if number == 50:
                    victim.kill()
                    victim.wait(10)
                    if plane == "kernel":
                        stage.registry.delete(stage.service, one)
                answers.append(query(here, stage.to))
                time.sleep(0.02)
            assert set(answers[:50]) == {one, two}
            assert set(answers[51:]) <= {two, None}
            assert answers.count(None) <= (1 if plane == "kernel" else 0)
