"""Faults of etcd, and of what is written to it."""

from __future__ import annotations

import random
import time

from tests.soak.docker_host import SERVICES
from tests.soak.done import Done, fault
from tests.soak.etcd import Gateway
from tests.soak.scene import Scene
from tests.soak.wire import cut_off

STORM = 300  # writes
HOSTILE = (
    b'{"host": "169.254.169.254", "port": 80}',
    b'{"host": "127.0.0.1", "port": 22}',
    b'{"host": "224.0.0.1", "port": 80}',
    b'{"host": "10.79.0.21", "port": 0}',
    b'{"host": "10.79.0.21", "port": 80, "port": 81}',
    b'{"host": "10.79.0.21; flush ruleset", "port": 80}',
    b'{"host": "::1", "port": "80"}',
    b"[" * 5000,
    b"\xff\xfe\x00 not text",
    b"<script>alert(1)</script>",
    b"x" * 100_000,
    b"",
)


@fault
def etcd_member_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a member; started again after 5 s."""
    member = lot.choice(scene.etcd.members)
    member.kill()
    time.sleep(5)
    scene.etcd.start()
    return Done(member.name)


@fault
def etcd_leader_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of the leader; started again after 5 s."""
    member = scene.etcd.leader()
    member.kill()
    time.sleep(5)
    scene.etcd.start()
    return Done("the leader")


@fault
def etcd_member_asleep(scene: Scene, lot: random.Random) -> Done:
    """SIGSTOP of a member for 15 s: its connections stay open and mute."""
    member = lot.choice(scene.etcd.members)
    member.suspend()
    time.sleep(15)
    member.resume()
    scene.etcd.wait_healthy()
    return Done(member.name)


@fault
def etcd_member_cut_off(scene: Scene, lot: random.Random) -> Done:
    """Every packet from and to a member vanishes for 15 s."""
    member = lot.choice(scene.etcd.members)
    with cut_off(scene.etcd.hosts[member.name]):
        time.sleep(15)
    scene.etcd.wait_healthy()
    return Done(member.name)


@fault
def etcd_asleep(scene: Scene, lot: random.Random) -> Done:
    """SIGSTOP of all members for 8 s."""
    for member in scene.etcd.members:
        member.suspend()
    time.sleep(8)
    for member in scene.etcd.members:
        member.resume()
    scene.etcd.wait_healthy()
    return Done("all members")


@fault
def etcd_away(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of all members; started again after 15 s, longer than leases last."""
    scene.etcd.stop()
    time.sleep(15)
    scene.etcd.start()
    return Done("all members")


@fault
def storm_of_records(scene: Scene, lot: random.Random) -> Done:
    """300 changes within 5 to 10 s: records that come, change their weight and go, beside those that stay."""
    drawn = lot.choice(scene.instances("web"))
    host, _, port = drawn.address.rpartition(":")
    with Gateway(scene.client, scene.etcd.addresses[0]) as gateway:
        for number in range(STORM):
            value = f'{{"host": "{host}", "port": {port}, "weight": {lot.randint(1, 5)}}}'
            gateway.put(f"/services/web/storm-{number % 10}", value.encode())
            time.sleep(5 / STORM)
        gateway.delete("/services/web/storm-")
    return Done(f"beside {drawn.name}")


@fault
def hostile_records(scene: Scene, lot: random.Random) -> Done:
    """Records that nobody may believe, for 3 s, in both services."""
    with Gateway(scene.client, scene.etcd.addresses[0]) as gateway:
        for service in SERVICES:
            for number, value in enumerate(HOSTILE):
                gateway.put(f"/services/{service}/hostile-{number}", value)
        time.sleep(3)
        for service in SERVICES:
            gateway.delete(f"/services/{service}/hostile-")
    return Done("both services")
