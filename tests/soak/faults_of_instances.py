"""Faults of instances, of the hosts that they run on, and of the Docker Engines there."""

from __future__ import annotations

import random
import signal
import time

from tests.soak.docker_host import DockerHost, Running
from tests.soak.done import Done, fault, opened
from tests.soak.judging import Excuse
from tests.soak.oracle import wait_right
from tests.soak.scene import Scene
from tests.soak.wire import cut_off

HOSTS = "/ambassadors/drains/hosts"


def _one(scene: Scene, lot: random.Random, service: str) -> tuple[DockerHost, Running]:
    drawn = lot.choice(scene.instances(service))
    return scene.engine_of(drawn), drawn


def _kill(scene: Scene, lot: random.Random, service: str) -> tuple[str, tuple[float, float]]:
    engine, drawn = _one(scene, lot, service)
    moments = engine.kill(drawn.name)
    time.sleep(3)
    engine.start(drawn.name)
    return drawn.name, moments


@fault
def instance_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a TCP instance; started again after 3 s."""
    name, moments = _kill(scene, lot, "web")
    return Done(name, opened(*moments, instances={name}))


@fault
def udp_instance_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a UDP instance; started again after 3 s."""
    return Done(_kill(scene, lot, "dns")[0])


@fault
def instance_asleep(scene: Scene, lot: random.Random) -> Done:
    """SIGSTOP of a TCP instance for 6 s: its kernel accepts, and nobody answers."""
    engine, drawn = _one(scene, lot, "web")
    engine.signal(drawn.name, signal.SIGSTOP)
    time.sleep(6)
    engine.signal(drawn.name, signal.SIGCONT)
    return Done(drawn.name)


@fault
def instance_paused(scene: Scene, lot: random.Random) -> Done:
    """`docker pause` of a TCP instance for 6 s."""
    engine, drawn = _one(scene, lot, "web")
    engine.docker("pause", drawn.name)
    time.sleep(6)
    engine.docker("unpause", drawn.name)
    return Done(drawn.name)


@fault
def container_restarted(scene: Scene, lot: random.Random) -> Done:
    """`docker restart` of a TCP instance, which ends at once when told to, and is published at another port then."""
    engine, drawn = _one(scene, lot, "web")
    since = time.monotonic()
    engine.docker("restart", drawn.name)
    until = time.monotonic()
    engine.look(drawn.name, "web")
    return Done(drawn.name, opened(since, until, instances={drawn.name}))


@fault
def rolling_replacement(scene: Scene, lot: random.Random) -> Done:
    """Each TCP instance of a host: a new one beside it, drained for 2 s, stopped, removed."""
    engine = lot.choice(list(scene.engines.values()))
    excuses: list[Excuse] = []
    for old in engine.of("web"):
        engine.add("web")
        wait_right(scene)
        marker = f"/ambassadors/drains/instances/web/{old.id}"
        scene.etcd.etcdctl("put", marker, "")
        time.sleep(2)
        since = time.monotonic()
        engine.remove(old.name)
        excuses += opened(since, since, instances={old.name})  # those that stayed on it
        scene.etcd.etcdctl("del", marker)
    return Done(f"host {engine.name}", tuple(excuses))


@fault
def host_drained(scene: Scene, lot: random.Random) -> Done:
    """An operator drains a host for 5 s."""
    engine = lot.choice(list(scene.engines.values()))
    scene.etcd.etcdctl("put", f"{HOSTS}/{engine.name}", "")
    time.sleep(5)
    scene.etcd.etcdctl("del", f"{HOSTS}/{engine.name}")
    return Done(f"host {engine.name}")


@fault
def host_cut_off(scene: Scene, lot: random.Random) -> Done:
    """Every packet from and to a Docker host vanishes for 15 s, longer than the lease of its registrar."""
    engine = lot.choice(list(scene.engines.values()))
    since = time.monotonic()
    with cut_off(engine.host):
        until = time.monotonic()
        time.sleep(15)
    return Done(f"host {engine.name}", opened(since, until, instances={each.name for each in engine.running.values()}))


@fault
def engine_restarted(scene: Scene, lot: random.Random) -> Done:
    """dockerd is restarted: host a's containers live through it (live-restore), host b's end and are started again."""
    engine = lot.choice(list(scene.engines.values()))
    names = set(engine.running)
    since = time.monotonic()
    engine.engine.stop()
    until = time.monotonic()
    engine.engine.start()
    if engine.keeps:
        return Done(f"host {engine.name}")
    engine.start(*sorted(names))
    return Done(f"host {engine.name}", opened(since, until, instances=names))
