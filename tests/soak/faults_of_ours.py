"""Faults of our own programs."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.soak.done import Done, fault, opened
from tests.soak.judging import Excuse
from tests.soak.ours import Ours
from tests.soak.scene import Scene

LEASE = 10  # seconds, registrar's default
LONG = frozenset({"long"})  # what does not finish while a process drains
REPAIRED = 10.0  # seconds after which flushed rules are back at the latest (C9)


def _again(program: Ours, *, after: float) -> None:
    time.sleep(after)
    program.start()
    if program.module != "simple_amb":
        program.wait_ready()


@fault
def registrar_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a registrar; started again within its lease, after 3 s."""
    drawn = lot.choice(scene.frail("registrar"))
    drawn.kill()
    _again(drawn, after=3)
    return Done(drawn.name)


@fault
def registrar_away(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a registrar; started again when its records have gone, after 14 s."""
    drawn = lot.choice(scene.frail("registrar"))
    drawn.kill()
    _again(drawn, after=LEASE + 4)
    return Done(drawn.name)


@fault
def registrar_restarted(scene: Scene, lot: random.Random) -> Done:
    """SIGTERM of a registrar; started again at once."""
    drawn = lot.choice(scene.frail("registrar"))
    drawn.terminate()
    _again(drawn, after=0)
    return Done(drawn.name)


@fault
def simple_amb_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of the simple-amb that leads a proxy to etcd; started again after 3 s."""
    drawn = lot.choice(scene.frail("simple_amb"))
    drawn.kill()
    _again(drawn, after=3)
    return Done(drawn.name)


def _proxy(scene: Scene, lot: random.Random, kind: str) -> tuple[str, Ours]:
    found = [(name, each) for name, each in scene.proxies.items() if name.startswith(kind) and not each.steady]
    return lot.choice(found)


def _relayed(scene: Scene, name: str, *moments: float) -> tuple[Excuse, ...]:
    """Excuses what the relay took beside a kernel that had no rules: it ends with its process, as any relay's does."""
    windows = scene.without_rules[name]
    return tuple(Excuse(min(moments), max(moments), name, begun=window) for window in windows)


@fault
def kernel_proxy_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a dynproxy whose rules forward, and of its relay; started again after 3 s."""
    name, drawn = _proxy(scene, lot, "kernel")
    for worker in drawn.workers():
        os.kill(worker, signal.SIGKILL)
    moment = drawn.kill()
    _again(drawn, after=3)
    return Done(name, _relayed(scene, name, moment))


@fault
def kernel_proxy_restarted(scene: Scene, lot: random.Random) -> Done:
    """SIGTERM of a dynproxy whose rules forward; started again when it has ended."""
    name, drawn = _proxy(scene, lot, "kernel")
    moment = drawn.terminate()
    _again(drawn, after=0)
    return Done(name, _relayed(scene, name, moment))


@fault
def relay_proxy_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of a dynproxy that relays; started again after 3 s. A service manager keeps its sockets."""
    name, drawn = _proxy(scene, lot, "relay")
    moment = drawn.kill()
    _again(drawn, after=3)
    return Done(name, opened(moment, proxy=name))


@fault
def relay_proxy_restarted(scene: Scene, lot: random.Random) -> Done:
    """SIGTERM of a dynproxy that relays; started again when it has drained. A service manager keeps its sockets."""
    name, drawn = _proxy(scene, lot, "relay")
    moment = drawn.terminate()
    _again(drawn, after=0)
    return Done(name, opened(moment, proxy=name))


@fault
def kernel_proxy_handed_over(scene: Scene, lot: random.Random) -> Done:
    """A new dynproxy takes over from one whose rules forward."""
    name, drawn = _proxy(scene, lot, "kernel")
    moment = time.monotonic()
    drawn.hand_over()
    drawn.wait_ready()
    return Done(name, _relayed(scene, name, moment, time.monotonic()))


@fault
def relay_proxy_handed_over(scene: Scene, lot: random.Random) -> Done:
    """A new dynproxy takes over from one that relays, which lets open connections finish for 5 s."""
    name, drawn = _proxy(scene, lot, "relay")
    moment = time.monotonic()
    drawn.hand_over()
    drawn.wait_ready()
    return Done(name, opened(moment, time.monotonic(), proxy=name, loads=LONG))


@fault
def simple_amb_handed_over(scene: Scene, lot: random.Random) -> Done:
    """A new simple-amb takes over from the one that leads a proxy to etcd."""
    drawn = lot.choice(scene.frail("simple_amb"))
    drawn.hand_over()
    return Done(drawn.name)


@fault
def proxy_starts_without_etcd(scene: Scene, lot: random.Random) -> Done:
    """All of etcd is away for 10 s, and a dynproxy is killed and started again meanwhile."""
    name, drawn = _proxy(scene, lot, "")
    scene.etcd.stop()
    moment = drawn.kill()
    drawn.start()
    time.sleep(10)
    scene.etcd.start()
    drawn.wait_ready()
    return Done(name, opened(moment, proxy=name) if name.startswith("relay") else _relayed(scene, name, moment))


@fault
def relay_worker_killed(scene: Scene, lot: random.Random) -> Done:
    """SIGKILL of the worker that carries a proxy's connections."""
    name, drawn = _proxy(scene, lot, "relay")
    moment = time.monotonic()
    for worker in drawn.workers():
        os.kill(worker, signal.SIGKILL)
    return Done(name, opened(moment, time.monotonic(), proxy=name))


@fault
def control_process_asleep(scene: Scene, lot: random.Random) -> Done:
    """SIGSTOP of a dynproxy's control process for 5 s."""
    name = lot.choice(sorted(scene.proxies))
    with scene.proxies[name].suspended():
        time.sleep(5)
    return Done(name)


@fault
def rules_flushed(scene: Scene, lot: random.Random) -> Done:
    """`nft flush ruleset` on a host whose kernel forwards. What was open loses its translation."""
    name = lot.choice([name for name in sorted(scene.proxies) if name.startswith("kernel")])
    since = time.monotonic()
    scene.proxies[name].host.nft("flush ruleset\n")
    scene.without_rules[name].append((since, time.monotonic() + REPAIRED))
    return Done(name, opened(since, time.monotonic(), proxy=name))
