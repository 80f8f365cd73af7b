"""What a client meets when instances refuse, cannot be reached or say nothing. No process of ours runs."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ambcore.model import Address
from dynproxy.ruleset import DEAD_FOR
from tests.support.answering import RESET, Answering, Datagrams
from tests.support.hosts import PATIENCE
from tests.support.kernel_scene import Scene
from tests.support.kernel_table import TCP80, UDP53
from tests.support.waiting import eventually

pytestmark = pytest.mark.netns

REFUSING = 9  # a port without a listener
PAID = 0.9  # seconds; a connection that took longer has sent its SYN again
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2  # include/uapi/linux/in.h, in6.h


@pytest.fixture(params=[4, 6])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(request.param) as scene:
        yield scene


def reject(scene: Scene, number: int, how: str) -> None:
    """Let the server's host treat what comes for an instance in nftables' words."""
    scene.rule(scene.server, "prerouting", f"{scene.family} daddr {scene.host(number)} {how}")


def dead(scene: Scene, *addresses: Address) -> bool:
    return eventually(lambda: scene.table.dead() == set(addresses))


def test_of_two_one_refuses_and_only_one_client_of_300_notices(scene: Scene) -> None:
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2, REFUSING))
    answers, slow, started = Counter[str](), 0, time.monotonic()
    for _ in range(300):
        before = time.monotonic()
        answers[scene.ask()] += 1
        slow += time.monotonic() - before > PAID
    assert answers == {scene.host(1): 300}
    assert 1 <= slow <= 1 + (time.monotonic() - started) / DEAD_FOR  # it is asked again once the set has forgotten it
    assert dead(scene, scene.instance(2, REFUSING))


@pytest.mark.parametrize("scene", [4], indirect=True)
def test_a_refusal_is_forgotten_after_a_while(scene: Scene) -> None:
    """So that an instance that comes back is found without anybody's help."""
    refusing = scene.instance(1, REFUSING)
    scene.table.serve(TCP80, refusing)
    assert scene.ask() == scene.relay
    assert dead(scene, refusing)
    with Answering(scene.server, REFUSING):
        eventually(lambda: scene.ask() == scene.host(1), DEAD_FOR + 10)
    assert not scene.table.dead()


def test_of_three_two_refuse(scene: Scene) -> None:
    refusing = scene.instance(1, REFUSING), scene.instance(2, REFUSING)
    scene.table.serve(TCP80, *refusing, scene.instance(3))
    assert scene.ask() == scene.host(3)
    assert dead(scene, *refusing)
    assert {scene.ask() for _ in range(6)} == {scene.host(3)}


def test_when_all_refuse_the_relay_has_it(scene: Scene) -> None:
    refusing = scene.instance(1, REFUSING), scene.instance(2, REFUSING)
    scene.table.serve(TCP80, *refusing)
    assert scene.ask() == scene.relay
    assert dead(scene, *refusing)


def test_a_lone_instance_that_refuses_leaves_its_clients_to_the_relay(scene: Scene) -> None:
    scene.table.serve(TCP80, scene.instance(1, REFUSING), policy="source-hash")
    assert scene.ask() == scene.relay


def test_a_burst_of_200_meets_a_refusing_one_without_an_error(scene: Scene) -> None:
    """All SYNs are out before the first refusal is seen: half of them, or a few less, are refused at once."""
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2, REFUSING))
    scene.rule(scene.server, "postrouting", "tcp flags & rst == rst counter")
    kind = socket.AF_INET if scene.version == 4 else socket.AF_INET6
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        made = scene.client.call(lambda: [stack.enter_context(socket.socket(kind)) for _ in range(200)])
        for each in made:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_WRITE)
            assert each.connect_ex((scene.relay, 80)) in (0, errno.EINPROGRESS)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, "connections that neither open nor fail"
            for key, _ in ready:
                selector.unregister(key.fileobj)
        assert [each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for each in made] == [0] * 200
    [(refused, _)] = scene.counted(scene.server, "postrouting")
    assert refused >= 1


@pytest.mark.parametrize("how", ["drop", "reject", "reject with tcp reset"])
def test_whatever_the_way_to_an_instance_does_with_a_syn_the_next_one_is_asked(scene: Scene, how: str) -> None:
    """Swallowed, answered by a router's ICMP message, or refused in its name. The lots are the order of instances."""
    reject(scene, 1, f"tcp flags & (syn | ack) == syn {how}")
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2))
    before = time.monotonic()
    assert scene.ask() == scene.host(2)
    assert time.monotonic() - before > PAID
    assert dead(scene, *[scene.instance(1)] * (how != "drop"))


def test_an_instance_that_the_proxy_finds_no_way_to_is_passed_by(scene: Scene) -> None:
    """Nobody has that address: after a second or three the proxy says "host unreachable" to itself."""
    nowhere = Address("10.77.2.99" if scene.version == 4 else "fd77:2::99", 80)
    scene.table.serve(TCP80, nowhere, scene.instance(2))
    assert scene.ask() == scene.host(2)
    dead(scene, nowhere)
    assert scene.ask() == scene.host(2)


def test_a_reset_of_an_open_connection_reaches_the_client(scene: Scene) -> None:
    scene.table.serve(TCP80, scene.instance(1))
    with scene.connect() as conversation, pytest.raises(ConnectionResetError):
        conversation.order(RESET)
    assert not scene.table.dead()


def test_a_reset_by_the_client_reaches_the_instance(scene: Scene) -> None:
    scene.rule(scene.server, "prerouting", "tcp dport 8000 tcp flags & rst == rst counter")
    scene.table.serve(TCP80, scene.instance(1))
    scene.connect().reset()
    eventually(lambda: scene.counted(scene.server, "prerouting")[0][0] == 1)


def test_an_unreachable_of_an_open_connection_reaches_the_client(scene: Scene) -> None:
    icmp = "icmp type" if scene.version == 4 else "icmpv6 type"
    scene.rule(scene.client, "input", f"{icmp} destination-unreachable counter")
    scene.table.serve(TCP80, scene.instance(1))
    with scene.connect() as conversation:
        reject(scene, 1, "reject")
        conversation.socket.sendall(b"on your way")
        eventually(lambda: scene.counted(scene.client, "input")[0][0])
    assert not scene.table.dead()


def test_a_packet_too_big_for_the_way_is_reported_before_any_answer(scene: Scene) -> None:
    """Else a client that sends large datagrams would never learn why nobody answers."""
    scene.proxy.run("ip", "link", "set", "server", "mtu", "1300")
    scene.table.serve(UDP53, scene.instance(1, 53))
    with scene.client.datagrams((scene.own(scene.client), 0), (scene.relay, 53)) as flow:
        if scene.version == 4:
            flow.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        else:
            flow.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        flow.send(bytes(1400))

        def told() -> bool:
            try:
                return not flow.send(bytes(1400))
            except OSError as error:
                return error.errno == errno.EMSGSIZE

        eventually(told)
    assert not scene.table.dead()


def test_tcp_learns_of_a_narrow_way_and_goes_on(scene: Scene) -> None:
    scene.table.serve(TCP80, scene.instance(1))
    with scene.connect() as conversation:
        scene.proxy.run("ip", "link", "set", "server", "mtu", "1300")
        assert conversation.echoes(bytes(100_000))


def test_a_udp_port_unreachable_is_kept_from_the_client_and_the_next_flow_goes_elsewhere(scene: Scene) -> None:
    """The flow that met it stays where it is until somebody deletes its entry, or it pauses for the kernel's 30 s."""
    refusing = scene.instance(1, 53)
    scene.table.serve(UDP53, refusing, scene.instance(2, 53))
    here = (scene.own(scene.client), 0)
    with (
        Datagrams(scene.server, (scene.host(2), 53)),
        scene.client.datagrams(here, (scene.relay, 53)) as unlucky,
        scene.client.datagrams(here, (scene.relay, 53)) as second,
        scene.client.datagrams(here, (scene.relay, 53)) as third,
    ):
        unlucky.send(b"who?")
        dead(scene, refusing)
        assert unlucky.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        for flow in (second, third):
            flow.send(b"who?")
            assert flow.recv(100).decode() == scene.host(2)


def test_a_udp_port_unreachable_after_an_answer_reaches_the_client(scene: Scene) -> None:
    scene.table.serve(UDP53, scene.instance(1, 53))
    with scene.client.datagrams((scene.own(scene.client), 0), (scene.relay, 53)) as flow:
        with Datagrams(scene.server, (scene.host(1), 53)):
            flow.send(b"who?")
            assert flow.recv(100).decode() == scene.host(1)
        flow.send(b"still there?")
        with pytest.raises(ConnectionRefusedError):
            flow.recv(100)
    assert not scene.table.dead()
