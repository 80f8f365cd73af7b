"""Our rules beside those of others: Docker's, before and after ours, and another proxy's."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from ambcore.model import Protocol
from dynproxy.ruleset import SIGNATURE, SIGNATURE_MASK, Port
from tests.support.answering import answered_by
from tests.support.kernel_scene import SERVED, Scene
from tests.support.kernel_table import TCP80, KernelTable
from tests.support.waiting import eventually

pytestmark = pytest.mark.netns

TCP81 = Port(Protocol.TCP, 81)

# As Docker's engine makes them with iptables' nft backend. Its "container" is instance 20; it publishes 8080 and 80.
DOCKER = """
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination {container}:8000
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 80 -j DNAT --to-destination {container}:8000
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j DOCKER
-A DOCKER -d {container}/32 ! -i docker0 -p tcp -m tcp --dport 8000 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
ACCEPT = f"DOCKER-USER -m connmark --mark {SIGNATURE:#x}/{SIGNATURE_MASK:#x} -j ACCEPT".split()


@pytest.fixture(params=[4, 6])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(request.param, table=False) as scene:
        yield scene


@pytest.fixture(params=["Docker's rules first", "our rules first"])
def docker(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(4, table=False) as scene:
        rules = DOCKER.format(container=scene.host(20))
        if request.param == "Docker's rules first":
            scene.proxy.output("iptables-restore", text=rules)
        scene.table = KernelTable(scene.proxy)
        if request.param == "our rules first":
            scene.proxy.output("iptables-restore", text=rules)
        yield scene


def dropped(scene: Scene) -> int:
    """How many packets the FORWARD chain's policy dropped."""
    found = re.search(r"Chain FORWARD \(policy DROP (\d+) packets", scene.proxy.output("iptables", "-nvxL", "FORWARD"))
    assert found
    return int(found[1])


def test_dockers_forward_policy_drops_our_connections(docker: Scene) -> None:
    """They reach the right instance's rule, and end there: Docker forwards for its own containers only."""
    docker.table.serve(TCP80, docker.instance(1))
    with docker.client.call(socket.socket) as made:
        made.setblocking(False)
        made.connect_ex((docker.relay, 80))
        eventually(lambda: dropped(docker) >= 1)
    assert docker.table.counted(TCP80)["new"][0] == 1
    assert docker.table.counted(TCP80)["all"] == (0, 0)


def test_one_rule_by_the_connections_mark_lets_ours_pass_and_nobody_elses(docker: Scene) -> None:
    docker.proxy.run("iptables", "-I", *ACCEPT)
    docker.table.serve(TCP80, docker.instance(1), docker.instance(2, 9))
    assert [docker.ask() for _ in range(4)] == [docker.host(1)] * 4
    assert eventually(docker.table.dead) == {docker.instance(2, 9)}
    before = dropped(docker)
    with docker.client.call(socket.socket) as made:
        made.setblocking(False)
        made.connect_ex((docker.host(1), SERVED))
        eventually(lambda: dropped(docker) > before)


def test_what_docker_publishes_goes_on(docker: Scene) -> None:
    docker.table.serve(TCP80, docker.instance(1))
    assert docker.ask(8080) == docker.host(20)


def test_a_port_that_docker_publishes_too_is_ours_while_somebody_is_behind_it(docker: Scene) -> None:
    """In either order of creation, for our priority is before Docker's; without an instance it is Docker's again."""
    docker.proxy.run("iptables", "-I", *ACCEPT)
    docker.table.serve(TCP80, docker.instance(1))
    assert docker.ask() == docker.host(1)
    docker.table.serve(TCP80)
    assert docker.ask() == docker.host(20)


def test_two_proxies_on_two_ports_do_not_disturb_each_other(scene: Scene) -> None:
    """Their endpoints have the same numbers, so the same marks; refusals and counts go by port."""
    one = KernelTable(scene.proxy, scene.family, [TCP80])
    two = KernelTable(scene.proxy, scene.family, [TCP81])
    one.serve(TCP80, scene.instance(1), scene.instance(2))
    two.serve(TCP81, scene.instance(3), scene.instance(4, 9))
    assert one.held.endpoints.keys() == two.held.endpoints.keys()
    check_apart(scene, one, two, (scene.relay, 80), (scene.relay, 81))


def test_two_proxies_on_one_port_of_two_addresses_do_not_disturb_each_other(scene: Scene) -> None:
    address = scene.add_address(scene.proxy, "client", 1, 50)
    one = KernelTable(scene.proxy, scene.family, [TCP80], listen=scene.relay)
    two = KernelTable(scene.proxy, scene.family, [TCP80], listen=address)
    one.serve(TCP80, scene.instance(1), scene.instance(2))
    two.serve(TCP80, scene.instance(3), scene.instance(4, 9))
    check_apart(scene, one, two, (scene.relay, 80), (address, 80))


def check_apart(
    scene: Scene, one: KernelTable, two: KernelTable, here: tuple[str, int], there: tuple[str, int]
) -> None:
    """One's two instances answer; of two's, one refuses, which only its own clients and its own set may notice."""
    port = next(iter(two.held.fronts))
    assert [answered_by(scene.client, there) for _ in range(4)] == [scene.host(3)] * 4
    assert two.dead() == {scene.instance(4, 9)}
    assert one.dead() == set()
    assert set(one.counted(TCP80).values()) == {(0, 0)}
    before = two.counted(port)["new"]
    assert [answered_by(scene.client, here) for _ in range(4)] == [scene.host(1), scene.host(2)] * 2
    assert one.counted(TCP80)["new"][0] == 4
    assert two.counted(port)["new"] == before


def test_another_program_of_the_host_may_use_connection_marks(scene: Scene) -> None:
    """Other signatures are not ours: such connections are neither masqueraded, nor counted, nor kept from refusals."""
    table = KernelTable(scene.proxy, scene.family)
    table.serve(TCP80, scene.instance(1))
    scene.rule(scene.proxy, "forward", "ct mark set 0x1")
    with pytest.raises(ConnectionRefusedError):
        answered_by(scene.client, (scene.host(1), 9))
    assert answered_by(scene.client, (scene.host(1), SERVED)) == scene.host(1)
    assert table.dead() == set()
