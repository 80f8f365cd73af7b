"""The kernel plane of a whole dynproxy: real etcd, real servers, clients on another host."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from dynproxy.ruleset import PREFIX
from tests.support.answering import Datagrams
from tests.support.hosts import Host
from tests.support.waiting import eventually
from tests.system.kernel_hosts import PORTS, REDIS, KernelProxy, Stage, Talk, answered_by
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

WITHOUT_THE_RIGHT = ("setpriv", "--bounding-set", "-net_admin")


def test_follows_records_that_another_client_writes(stage: Stage) -> None:
    one, two, _ = stage.servers
    with stage.serving(one) as proxy:
        assert stage.answers(4) == {one.host}
        stage.put(two)
        proxy.wait_serving(stage.service, one.host, two.host)
        assert stage.answers(4) == {one.host, two.host}
        stage.delete(one)
        proxy.wait_serving(stage.service, two.host)
        assert stage.answers(4) == {two.host}


def test_says_who_serves_and_counts_what_the_kernel_carries(stage: Stage) -> None:
    one = stage.servers[0]
    with stage.serving(one) as proxy:
        for _ in range(10):
            stage.ask()
        with Talk(stage.hosts.proxy, ("127.0.0.1", stage.port)) as talk:  # whom no rule takes
            assert talk.who()
        eventually(lambda: proxy.service(stage.service)["kernel"]["connections"] == 10, 10)
        shown = proxy.service(stage.service)
        assert shown["kernel"]["packets"] >= 80
        assert shown["kernel"]["bytes"] >= 10 * len("$9\r\n10.78.0.1\r\n")
        assert shown["plane_why"].startswith("the kernel forwards IPv4 and IPv6")
        eventually(lambda: proxy.instance(stage.service, one.host)["connections_total"] == 1)
        assert proxy.metric("amb_kernel_connections_total", service=stage.service) == 10
        assert proxy.metric("amb_plane_info", service=stage.service, plane="kernel") == 1


def test_an_IPv6_client_is_served_by_the_kernel_where_an_instance_has_IPv6_and_by_the_relay_where_none_has(
    stage: Stage,
) -> None:
    one, two, _ = stage.servers
    to = (stage.hosts.proxy.ipv6, stage.port)
    with stage.serving(one) as proxy:
        assert stage.ask(to) == one.host
        shown = proxy.service(stage.service)
        assert shown["plane_why"].endswith("no instance for IPv6 clients, the relay serves them")
        eventually(lambda: proxy.instance(stage.service, one.host)["connections_total"] == 1)
        stage.registry.put(stage.service, "six", two.host6)
        proxy.wait_serving(stage.service, one.host, "six")
        assert stage.answers(3, to) == {two.host}
        assert stage.answers(3) == {one.host}
        eventually(lambda: proxy.service(stage.service)["kernel"]["connections"] == 6, 10)


def test_a_client_on_the_host_of_its_instance_is_served(stage: Stage) -> None:
    """Its packets come back to where they are from, by way of the proxy both times."""
    with stage.serving(stage.servers[0]), Talk(stage.hosts.server, stage.to) as talk:
        assert talk.who() == stage.servers[0].host


@pytest.mark.parametrize(("policy", "survives"), [("keep", True), ("drain=1", False), ("cut", False)])
def test_pain_22_open_connection_follows_on_removal(stage: Stage, policy: str, survives: bool) -> None:
    """A client that is cut is reset when it next sends, whoever else is there to take its bytes."""
    one, two, _ = stage.servers
    with stage.serving(one, two, options=("--on-removal", policy)) as proxy, ExitStack() as stack:
        talks = [stack.enter_context(stage.talk()) for _ in range(4)]
        mine = [talk for talk in talks if talk.who() == one.host]
        others = [talk for talk in talks if talk not in mine]
        removed = time.monotonic()
        stage.delete(one)
        if survives:
            proxy.wait_serving(stage.service, two.host)
            time.sleep(0.5)
            assert [talk.who() for talk in mine] == [one.host] * 2
        else:
            for talk in mine:
                eventually(partial(is_reset, talk), 5, "the client is reset")
            took = time.monotonic() - removed
            assert (0.9 if policy == "drain=1" else 0) < took < 4
        assert [talk.who() for talk in others] == [two.host] * 2


def is_reset(talk: Talk) -> bool:
    try:
        talk.who()
    except ConnectionResetError:
        return True
    return False


def test_clients_of_instances_that_all_refuse_come_to_the_relay_and_are_served_by_the_first_that_is_back(
    stage: Stage,
) -> None:
    """The kernel costs them a second, and the relay asks for one more before it gives up."""
    with stage.serving(*stage.servers) as proxy, ThreadPoolExecutor(4) as pool:
        for server in stage.servers:
            server.kill()
        waiting = [pool.submit(stage.ask) for _ in range(4)]
        time.sleep(0.5)
        assert not any(each.done() for each in waiting)
        stage.servers[1].start()
        assert {each.result(15) for each in waiting} == {stage.servers[1].host}
        stage.servers[1].kill()
        eventually(lambda: proxy.service(stage.service)["plane"] == "relay", 10, "nobody is left in the rules")
        assert "no instance takes clients" in proxy.service(stage.service)["plane_why"]
        stage.servers[2].start()
        assert stage.ask() == stage.servers[2].host
        eventually(lambda: proxy.service(stage.service)["plane"] == "kernel", 10, "the kernel has it back")


def test_an_instance_that_hangs_up_on_everybody_leaves_the_rules_and_comes_back_when_it_is_well(stage: Stage) -> None:
    one, bad = stage.servers[0], stage.hosts.instance(21)
    with stage.serving(one) as proxy:
        with hanging_up(stage.hosts.server, bad):
            stage.registry.put(stage.service, "bad", bad)
            eventually(lambda: bad in stage.rules(), 5, "it was believed at first")
            eventually(lambda: bad not in stage.rules(), 5, "it is found out")
            assert stage.answers(4) == {one.host}
            shown = proxy.instance(stage.service, "bad")
            assert (shown["state"], shown["check"]["why"]) == ("ejected", "closed")
            assert proxy.metric("amb_instances_down", service=stage.service) == 1
        with stage.hosts.server.listen((bad, REDIS)):
            eventually(lambda: bad in stage.rules(), 10, "it is well again")


@contextlib.contextmanager
def hanging_up(host: Host, address: str) -> Iterator[None]:
    """A server that accepts and closes."""
    listener = host.listen((address, REDIS))
    listener.settimeout(None)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listener.close()


def test_datagrams_come_and_go_and_outlive_a_restart_of_the_server(stage: Stage) -> None:
    at = (stage.hosts.instance(31), 53)
    stage.registry.put(stage.service, "dns", *at, protocol="udp")
    with (
        stage.proxy("--plane", "kernel") as proxy,
        stage.hosts.client.datagrams((stage.hosts.client.ipv4, 0), stage.to) as client,
    ):
        with Datagrams(stage.hosts.server, at):
            proxy.wait_serving(stage.service, "dns")
            assert answered_by(client) == at[0]
        client.settimeout(0.3)
        assert not answers(client)
        with Datagrams(stage.hosts.server, at):
            eventually(lambda: answers(client), 10, "served again")


def test_least_connections_is_the_relays_and_the_status_says_so(stage: Stage) -> None:
    stage.put(stage.servers[0])
    with stage.proxy("--policy", "least-connections") as proxy:
        proxy.wait_serving(stage.service, stage.servers[0].host, plane="relay")
        assert proxy.service(stage.service)["plane_why"] == (
            "least-connections needs to count connections, which the relay does"
        )
        assert stage.ask() == stage.servers[0].host
    assert PREFIX not in stage.rules()


class TestWithoutTheRight:
    """CAP_NET_ADMIN taken away, as in a container that was not given it."""

    def test_insisting_on_the_kernel_ends_with_2_and_one_line(self, stage: Stage) -> None:
        with stage.proxy("--plane", "kernel", prefix=WITHOUT_THE_RIGHT) as proxy:
            assert proxy.process.wait(15) == 2
            eventually(lambda: proxy.lines)
        assert proxy.lines == ["dynproxy: --plane: the kernel cannot: no CAP_NET_ADMIN: run with --cap-add NET_ADMIN\n"]

    def test_auto_falls_back_to_the_relay_and_says_so(self, stage: Stage) -> None:
        stage.put(stage.servers[0])
        with stage.proxy(prefix=WITHOUT_THE_RIGHT) as proxy:
            proxy.wait_serving(stage.service, stage.servers[0].host, plane="relay")
            assert "no CAP_NET_ADMIN" in proxy.status()["plane"]["why"]
            proxy.wait_for("the relay serves: no CAP_NET_ADMIN")
            assert stage.ask() == stage.servers[0].host
        assert PREFIX not in stage.rules()


class TestTakingOver:
    """What a process does with the rules that one before it left."""

    @pytest.mark.parametrize("policy", ["keep", "cut"])
    def test_instances_that_changed_meanwhile(self, stage: Stage, policy: str) -> None:
        """Open connections survive; those of an instance that went meanwhile follow --on-removal."""
        one, two, three = stage.servers
        options = ("--on-removal", policy)
        with stage.serving(one, two, options=options) as first, ExitStack() as stack:
            talks = [stack.enter_context(stage.talk()) for _ in range(4)]
            names = [talk.who() for talk in talks]
            assert set(names) == {one.host, two.host}
            first.kill()
            stage.delete(one)
            stage.put(three)
            assert stage.answers(4) == {one.host, two.host}, "the kernel does not know yet"
            second = stack.enter_context(stage.proxy("--plane", "kernel", *options))
            second.wait_serving(stage.service, two.host, three.host)
            assert stage.answers(4) == {two.host, three.host}
            for talk, name in zip(talks, names, strict=True):
                if name == one.host and policy == "cut":
                    eventually(partial(is_reset, talk), 5, "cut")
                else:
                    assert talk.who() == name

    def test_while_etcd_is_away(self, stage: Stage) -> None:
        """Not known is not nobody: the kernel goes on as it was, and refusals and harm are seen to."""
        names = {each.host for each in stage.servers}
        with stage.serving(*stage.servers) as first, ExitStack() as stack:
            talk = stack.enter_context(stage.talk())
            name = talk.who()
            with Load(stage.hosts.client, stage.to, 50) as clients:
                first.kill()
                second = stack.enter_context(stage.proxy("--plane", "kernel", "--etcd", "http://127.0.0.1:9"))
                second.wait_for("goes on from 3 endpoints")
                eventually(lambda: second.service(stage.service)["plane"] == "kernel")
                assert second.service(stage.service)["instances"] is None
                assert stage.answers(6) == names
                time.sleep(1)
            assert clients.outcome.errors == {}
            assert talk.who() == name
            eventually(lambda: second.service(stage.service)["kernel"]["connections"] > 0, 10, "it counts")
            written = stage.hosts.proxy.output("nft", "--stateless", "list", "ruleset")
            stage.hosts.proxy.nft("flush ruleset\n")
            eventually(lambda: stage.hosts.proxy.output("nft", "--stateless", "list", "ruleset") == written, 10)

    def test_a_new_service_at_a_lower_port(self, stage: Stage) -> None:
        """Its table has another name then; the old one goes in the same moment as the new one comes."""
        lower, higher, service = stage.port, next(PORTS), stage.service
        to = (stage.hosts.proxy.ipv4, higher)
        stage.put(stage.servers[0])
        with KernelProxy(stage, {higher: service}, "--plane", "kernel") as first, ExitStack() as stack:
            first.wait_serving(service, stage.servers[0].host)
            talk = stack.enter_context(stage.talk(to))
            assert talk.who()
            with Load(stage.hosts.client, to, 50) as clients:
                first.kill()
                stage.registry.put(f"{service}b", "one", stage.servers[1].host)
                services = {lower: f"{service}b", higher: service}
                second = stack.enter_context(KernelProxy(stage, services, "--plane", "kernel"))
                second.wait_serving(service, stage.servers[0].host)
                second.wait_serving(f"{service}b", "one")
                time.sleep(0.5)
            assert clients.outcome.errors == {}
            assert stage.answers(2) == {stage.servers[1].host}
            assert talk.who() == stage.servers[0].host
            assert tables(stage) == {f"{PREFIX}{lower}"}

    def test_another_policy(self, stage: Stage) -> None:
        with stage.serving(*stage.servers) as first, stage.talk() as talk:
            name = talk.who()
            assert len(stage.answers(6)) == 3
            first.kill()
            with stage.proxy("--plane", "kernel", "--policy", "source-hash") as second:
                second.wait_serving(stage.service, *(each.host for each in stage.servers))
                assert len(stage.answers(6)) == 1
                assert talk.who() == name

    def test_a_table_of_its_name_that_it_cannot_read_is_replaced(self, stage: Stage) -> None:
        name = f"{PREFIX}{stage.port}"
        stage.hosts.proxy.nft(
            f"add table ip {name}\nadd map ip {name} fronts {{ type inet_service : verdict; }}\n"
            f"add chain ip {name} prerouting {{ type filter hook prerouting priority 7; }}\n"
            f"add rule ip {name} prerouting tcp dport {stage.port} drop\n"
        )
        with stage.serving(stage.servers[0]) as proxy:
            assert stage.ask() == stage.servers[0].host
            proxy.wait_for(f"table ip {name} is replaced")
            assert "priority filter + 7" not in stage.rules()

    def test_the_relay_plane_takes_away_what_the_kernel_plane_left(self, stage: Stage) -> None:
        with stage.serving(stage.servers[0]) as first:
            first.kill()
            stage.put(stage.servers[1])
            with stage.proxy("--plane", "relay") as second:
                second.wait_serving(stage.service, *(each.host for each in stage.servers[:2]), plane="relay")
                second.wait_for("removed the rules that a dynproxy had left here")
                assert tables(stage) == set()
                assert len(stage.answers(4)) == 2

    def test_cleanup_removes_everything_and_says_what_it_was(self, stage: Stage) -> None:
        stage.hosts.proxy.nft("add table ip somebody_elses\n")
        with stage.serving(stage.servers[0]) as proxy:
            proxy.kill()
        for said in (rf"removed: .*ip {PREFIX}{stage.port}", "there was nothing to remove"):
            assert re.search(said, stage.hosts.proxy.output(*cleanup()))
        assert tables(stage) == {"somebody_elses"}


def cleanup() -> tuple[str, ...]:
    return (sys.executable, "-m", "dynproxy", "--cleanup")


def tables(stage: Stage) -> set[str]:
    return {line.split()[-1] for line in stage.hosts.proxy.output("nft", "list", "tables").splitlines()}


def test_two_on_one_host_do_not_disturb_each_other(stage: Stage) -> None:
    """The same instances behind both; what one cuts, and what one counts, is its own."""
    one, two, _ = stage.servers
    other, port = f"{stage.service}b", next(PORTS)
    cut = ("--plane", "kernel", "--on-removal", "cut")
    for each in (one, two):
        stage.registry.put(other, each.host, each.host)
    with stage.serving(one, two, options=("--on-removal", "cut")) as first, ExitStack() as stack:
        second = stack.enter_context(KernelProxy(stage, {port: other}, *cut))
        second.wait_serving(other, one.host, two.host)
        to = (stage.hosts.proxy.ipv4, port)
        mine = [stack.enter_context(stage.talk()) for _ in range(4)]
        others = [stack.enter_context(stage.talk(to)) for _ in range(4)]
        names = [talk.who() for talk in others]
        assert {talk.who() for talk in mine} == set(names) == {one.host, two.host}
        stage.delete(one, two)
        for talk in mine:
            eventually(partial(is_reset, talk), 5, "cut")
        assert [talk.who() for talk in others] == names
        assert first.stop() == 0
        assert stage.answers(4, to) == set(names)
        assert second.kernel()["repairs"] == 0
        eventually(lambda: second.service(other)["kernel"]["connections"] == 8, 10)


@pytest.mark.parametrize("version", [4, 6])
def test_one_address_alone_is_served_if_asked_for(stage: Stage, version: int) -> None:
    proxy, server = stage.hosts.proxy, stage.servers[0]
    listen, other = (proxy.ipv4, "10.77.2.1") if version == 4 else (proxy.ipv6, "fd77:2::1")
    stage.registry.put(stage.service, "one", server.host if version == 4 else server.host6)
    with stage.proxy("--plane", "kernel", "--listen", listen) as program:
        program.wait_serving(stage.service, "one")
        assert stage.ask((listen, stage.port)) == server.host
        with pytest.raises(ConnectionRefusedError):
            stage.talk((other, stage.port))
        eventually(lambda: program.service(stage.service)["kernel"]["connections"] == 1, 10)
        assert len(tables(stage)) == 1


def test_datagrams_move_on_from_an_instance_that_refuses_them(stage: Stage) -> None:
    """The first is lost; the flow is forgotten as soon as the refusal is seen, and the next goes elsewhere."""
    well, closed = stage.hosts.instance(41), stage.hosts.instance(42)
    for host in (well, closed):
        stage.registry.put(stage.service, host, host, 53, protocol="udp")
    with Datagrams(stage.hosts.server, (well, 53)), stage.proxy("--plane", "kernel") as proxy, ExitStack() as stack:
        proxy.wait_serving(stage.service, well, closed)
        here = stage.hosts.client
        clients = [stack.enter_context(here.datagrams((here.ipv4, 0), stage.to)) for _ in range(6)]
        for client in clients:
            client.settimeout(0.2)
        lost = [client for client in clients if not answers(client)]
        assert lost, "nobody came to the closed port"
        for client in lost:
            eventually(partial(answers, client), 10, "another instance answers")


def answers(client: socket.socket) -> bool:
    """Whether a datagram of this client's is answered."""
    try:
        return bool(answered_by(client))
    except (TimeoutError, ConnectionRefusedError):
        return False
