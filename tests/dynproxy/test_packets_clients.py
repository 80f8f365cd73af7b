"""Whom the kernel takes, by `--allow`: all others come to the relay's listener. No process of ours runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ambcore.admission import parse_networks
from tests.support.answering import Datagrams, answered_by
from tests.support.kernel_scene import SERVED, Scene
from tests.support.kernel_table import TCP80, UDP53, KernelTable

pytestmark = pytest.mark.netns


@pytest.fixture(params=[4, 6])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(request.param, table=False) as scene:
        yield scene


def serve(scene: Scene, networks: str | None) -> None:
    """A table for these clients, with an instance behind each port."""
    clients = None if networks is None else parse_networks(networks)
    scene.table = KernelTable(scene.proxy, scene.family, clients=clients)
    scene.table.serve(TCP80, scene.instance(1))
    scene.table.serve(UDP53, scene.instance(1))


@pytest.mark.parametrize(
    ("networks", "taken"),
    [
        (None, True),
        ("{client}", True),
        ("{near}", True),
        ("{other}", False),
        ("{other},{client}", True),
        ("", False),
    ],
)
def test_the_kernel_takes_clients_inside_and_leaves_others_to_the_relay(
    scene: Scene, networks: str | None, taken: bool
) -> None:
    client = scene.own(scene.client)
    near = "10.77.0.0/16" if scene.version == 4 else "fd77:1::/64"
    other = "192.0.2.0/24" if scene.version == 4 else "2001:db8::/32"
    serve(scene, networks and networks.format(client=client, near=near, other=other))
    assert scene.ask() == (scene.host(1) if taken else scene.relay)


def test_one_host_with_two_addresses_is_two_clients(scene: Scene) -> None:
    inside = scene.own(scene.client)
    outside = scene.add_address(scene.client, "eth0", 1, 77)
    serve(scene, inside)
    for source, answer in ((inside, scene.host(1)), (outside, scene.relay)):
        assert answered_by(scene.client, (scene.relay, 80), (source, 0)) == answer


def test_datagrams_are_judged_as_connections_are(scene: Scene) -> None:
    inside = scene.own(scene.client)
    outside = scene.add_address(scene.client, "eth0", 1, 77)
    serve(scene, inside)
    with Datagrams(scene.server, (scene.host(1), SERVED)), Datagrams(scene.proxy, (scene.relay, 53)):
        for source, answer in ((inside, scene.host(1)), (outside, scene.relay)):
            with scene.client.datagrams((source, 0), (scene.relay, 53)) as client:
                client.send(b"?")
                assert client.recv(100).decode() == answer


def test_the_clients_of_a_table_made_anew_are_those_that_it_says(scene: Scene) -> None:
    serve(scene, scene.own(scene.client))
    with scene.connect() as before:
        serve(scene, "")
        assert scene.ask() == scene.relay
        assert before.echoes()  # it is let in already
