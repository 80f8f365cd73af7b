"""Where a packet goes: the kernel's rules in a real kernel, real clients and servers beside it."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dynproxy.ruleset import replacement
from tests.support.answering import CLOSE, Answering, Conversation, Datagrams, answered_by
from tests.support.kernel_scene import Scene
from tests.support.kernel_table import TCP80, UDP53, KernelTable
from tests.support.waiting import eventually

pytestmark = pytest.mark.netns

# Somebody else's translation of addresses, of no concern to any packet here.
OTHER = """
add table {0} other
add chain {0} other postrouting {{ type nat hook postrouting priority srcnat; }}
add rule {0} other postrouting oifname none masquerade
"""


@pytest.fixture(params=[4, 6])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(request.param) as scene:
        yield scene


def test_round_robin_takes_turns_exactly(scene: Scene) -> None:
    scene.table.serve(TCP80, *(scene.instance(number) for number in (1, 2, 3)))
    assert [scene.ask() for _ in range(9)] == [scene.host(number) for number in (1, 2, 3)] * 3


def test_round_robin_does_not_begin_at_the_first_instance_after_each_change(scene: Scene) -> None:
    """Rules that are written anew count anew: with a change before every client the first instance would get all."""
    got = []
    for turn in range(12):
        scene.table.serve(TCP80, *(scene.instance(number) for number in range(1, 6 + turn % 2)))
        got.append(scene.ask())
    assert len(set(got)) >= 4
    assert max(Counter(got).values()) <= 4


def test_weights_are_kept_exactly(scene: Scene) -> None:
    scene.table.share(TCP80, {scene.instance(1): 3, scene.instance(2): 1})
    assert Counter(scene.ask() for _ in range(12)) == {scene.host(1): 9, scene.host(2): 3}


def test_random_spreads_roughly_evenly(scene: Scene) -> None:
    """200 fair draws: 100 each, seven the standard deviation; 58 off comes once in 10^15 runs."""
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2), policy="random")
    got = Counter(scene.ask() for _ in range(200))
    assert got.keys() == {scene.host(1), scene.host(2)}
    assert min(got.values()) > 42


def test_a_source_hash_sends_a_client_to_one_instance_and_clients_to_many(scene: Scene) -> None:
    scene.table.serve(TCP80, *(scene.instance(number) for number in range(1, 5)), policy="source-hash")
    chosen: list[str] = []
    for last in range(10, 26):
        client = scene.add_address(scene.client, "eth0", 1, last)
        got = {answered_by(scene.client, (scene.relay, 80), (client, 0)) for _ in range(4)}
        assert len(got) == 1
        chosen += got
    assert len(set(chosen)) > 2


def test_an_instance_sees_the_proxy_as_its_client(scene: Scene) -> None:
    """So its answer comes back this way, wherever the instance is."""
    scene.table.serve(TCP80, scene.instance(1))
    with scene.connect() as conversation:
        assert conversation.seen_from == ("10.77.2.1" if scene.version == 4 else "fd77:2::1")


def test_without_a_listen_address_every_local_one_is_served(scene: Scene) -> None:
    scene.table.serve(TCP80, scene.instance(1))
    more = scene.add_address(scene.proxy, "client", 1, 50)
    far = "10.77.2.1" if scene.version == 4 else "fd77:2::1"
    assert {answered_by(scene.client, (address, 80)) for address in (more, far)} == {scene.host(1)}


def test_with_a_listen_address_other_local_ones_are_left_alone(scene: Scene) -> None:
    more = scene.add_address(scene.proxy, "client", 1, 50)
    scene.proxy.nft(f"delete table {scene.family} {scene.table.held.table}\n")
    table = KernelTable(scene.proxy, scene.family, listen=more)
    table.serve(TCP80, scene.instance(1))
    assert answered_by(scene.client, (more, 80)) == scene.host(1)
    assert scene.ask() == scene.relay


def test_another_port_is_left_alone(scene: Scene) -> None:
    """Its refusal too: a reset that answers a SYN, but none of ours."""
    scene.table.serve(TCP80, scene.instance(1))
    with Answering(scene.proxy, 81):
        assert scene.ask(81) == scene.relay
    with pytest.raises(ConnectionRefusedError):
        scene.ask(82)
    assert scene.table.counted(TCP80)["new"] == (0, 0)


def test_what_passes_through_to_another_host_is_left_alone(scene: Scene) -> None:
    """Our port, somebody else's address: not sent elsewhere, not masqueraded, not counted; refusals arrive."""
    scene.table.serve(TCP80, scene.instance(1))
    with (
        Answering(scene.server, 80),
        Conversation(scene.client, (scene.host(9), 80)) as conversation,
    ):
        assert (conversation.at, conversation.seen_from) == (scene.host(9), scene.own(scene.client))
    with pytest.raises(ConnectionRefusedError):
        answered_by(scene.client, (scene.host(9), 82))
    assert set(scene.table.counted(TCP80).values()) == {(0, 0)}


def test_a_front_without_an_instance_is_the_relays(scene: Scene) -> None:
    assert scene.ask() == scene.relay
    scene.table.serve(TCP80, scene.instance(1))
    assert scene.ask() == scene.host(1)
    scene.table.serve(TCP80)
    assert scene.ask() == scene.relay


def test_a_udp_flow_keeps_its_instance_and_flows_take_turns(scene: Scene) -> None:
    scene.table.serve(UDP53, scene.instance(1, 53), scene.instance(2, 53))
    with Datagrams(scene.server, (scene.host(1), 53), (scene.host(2), 53)), ExitStack() as flows:
        made = [
            flows.enter_context(scene.client.datagrams((scene.own(scene.client), 0), (scene.relay, 53)))
            for _ in range(4)
        ]
        rounds = []
        for _ in range(3):
            for flow in made:
                flow.send(b"who?")
            rounds.append([flow.recv(100).decode() for flow in made])
    assert rounds == [[scene.host(1), scene.host(2)] * 2] * 3


def test_counters_count_a_datagram_and_its_answer_exactly(scene: Scene) -> None:
    """Bytes are those of the whole IP packet: header, UDP's 8, and the data."""
    scene.table.serve(UDP53, scene.instance(1, 53))
    header = (20 if scene.version == 4 else 40) + 8
    with (
        Datagrams(scene.server, (scene.host(1), 53)),
        scene.client.datagrams((scene.own(scene.client), 0), (scene.relay, 53)) as flow,
    ):
        for size in (100, 200):
            flow.send(bytes(size))
            flow.recv(100)
        answer = header + len(scene.host(1))
        assert scene.table.counted(UDP53) == {
            "new": (1, header + 100),
            "all": (4, 2 * header + 300 + 2 * answer),
        }
        assert set(scene.table.counted(TCP80).values()) == {(0, 0)}


def test_counters_count_tcp_as_the_client_does(scene: Scene) -> None:
    """The client's own packet filter is the witness of every packet and byte."""
    scene.rule(scene.client, "output", "tcp dport 80 counter")
    scene.rule(scene.client, "input", "tcp sport 80 counter")
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2))
    for _ in range(5):
        with scene.connect() as conversation:
            assert conversation.echoes(bytes(300))
            assert conversation.order(CLOSE) == b""

    def agree() -> bool:
        [sent], [got] = scene.counted(scene.client, "output"), scene.counted(scene.client, "input")
        counted = scene.table.counted(TCP80)
        assert counted["all"] == (sent[0] + got[0], sent[1] + got[1])
        return counted["new"][0] == 5

    eventually(agree)


def test_open_connections_outlive_every_change_and_even_a_new_table(scene: Scene) -> None:
    scene.table.serve(TCP80, *(scene.instance(number) for number in range(1, 5)))
    with ExitStack() as stack:
        made = [stack.enter_context(scene.connect()) for _ in range(100)]
        scene.table.serve(TCP80, scene.instance(9), policy="source-hash")
        assert all(one.echoes() for one in made)
        scene.table.serve(TCP80)
        assert all(one.echoes() for one in made)
        scene.proxy.nft(replacement(scene.table.held))
        assert all(one.echoes() for one in made)


def test_open_connections_outlive_the_table_where_somebody_else_translates_addresses_too(scene: Scene) -> None:
    """As Docker does. With the last such table goes the kernel's translation itself, and every connection with it."""
    scene.proxy.nft(OTHER.format(scene.family))
    scene.table.serve(TCP80, scene.instance(1))
    with scene.connect() as conversation:
        scene.proxy.run("nft", "delete", "table", scene.family, scene.table.held.table)
        assert conversation.echoes()
    assert scene.ask() == scene.relay


@pytest.mark.parametrize("ending", ["the server closes first", "the client resets"])
def test_a_source_port_that_comes_again_is_a_new_connection(scene: Scene, ending: str) -> None:
    """It is balanced anew although the kernel still knows the old one."""
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2))
    got = []
    for _ in range(4):
        with scene.connect(41000) as conversation:
            got.append(conversation.at)
            if ending == "the client resets":
                conversation.reset()
            else:
                assert conversation.order(CLOSE) == b""
    assert got == [scene.host(1), scene.host(2)] * 2
    assert scene.table.counted(TCP80)["new"][0] == 4


def test_a_syn_that_comes_twice_goes_the_same_way_twice(scene: Scene) -> None:
    """Within the second in which its first one may be answered."""
    scene.table.serve(TCP80, scene.instance(1), scene.instance(2))
    for number in (1, 2):
        scene.rule(scene.server, "prerouting", f"{scene.family} daddr {scene.host(number)} tcp flags syn counter drop")
    kind = socket.AF_INET if scene.version == 4 else socket.AF_INET6
    for _ in range(2):
        with scene.client.call(lambda: socket.socket(kind)) as made:  # closed before an answer, its port is free again
            made.setblocking(False)
            made.bind((scene.own(scene.client), 41000))
            made.connect_ex((scene.relay, 80))
    assert [packets for packets, _ in scene.counted(scene.server, "prerouting")] == [2, 0]
    assert scene.table.counted(TCP80)["new"][0] == 1
