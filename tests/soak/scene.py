"""The stage of the soak, all of it real, each part a host of its own on one wire.

    etcd m0 m1 m2    .11 .12 .13      Docker hosts a, b      .21 .22, with registrar
    clients          .100             kernel-1, relay-1 …    .31 .32 …, with dynproxy; simple-amb to etcd

Each program is there twice: number 1 (and registrar a) lives through the whole run, so that its memory can be judged;
number 2 (and registrar b) is killed and restarted by faults. Host a's engine keeps containers over its own restart, b's
does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.client import Plan
from tests.soak.docker_host import TCP, UDP, DockerHost, Running
from tests.soak.etcd import Etcd
from tests.soak.load import Load
from tests.soak.ours import ADMIN, Ours, kept_sockets
from tests.soak.wire import Wire
from tests.support.hosts import Host

ENGINES = {"a": ("--live-restore",), "b": ()}
DRAIN = "5"  # seconds: less than clients' patience, as those of the relay wait that long at its restart
EACH = 2  # instances of each service on each host


@dataclass
class Scene:
    """All parts. `engines` are by name, `ours` too, `proxies` those of ours that clients talk to, `without_rules` from
    when to when at most a kernel forwarded nobody.
    """

    client: Host
    etcd: Etcd
    load: Load
    engines: dict[str, DockerHost]
    ours: dict[str, Ours] = field(default_factory=dict)
    proxies: dict[str, Ours] = field(default_factory=dict)
    without_rules: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def instances(self, service: str) -> list[Running]:
        """Those that shall be registered now."""
        return [each for engine in self.engines.values() for each in engine.of(service)]

    def engine_of(self, running: Running) -> DockerHost:
        """Where an instance runs."""
        return next(engine for engine in self.engines.values() if running.name in engine.running)

    def frail(self, *modules: str) -> list[Ours]:
        """Our programs that faults may end."""
        return [each for each in self.ours.values() if each.module in modules and not each.steady]


@contextmanager
def stage(folder: Path, *, pairs: int = 2) -> Iterator[Scene]:
    """Everything runs and serves; gone afterwards. With one pair there is one Docker host, and nobody is steady."""
    with ExitStack() as stack:
        wire = Wire(stack)
        client = wire.host(100)
        etcd = Etcd(folder, [wire.host(number) for number in (11, 12, 13)])
        stack.enter_context(etcd)
        engines = {}
        for number, (name, options) in enumerate(list(ENGINES.items())[:pairs]):
            engines[name] = DockerHost(stack, wire, name, 21 + number, *options)
            for service in ("web", "dns") * EACH:
                engines[name].add(service)
        hosts = {f"{kind}-{pair}": wire.host(29 + 2 * pair + (kind == "relay"))
                 for pair in range(1, pairs + 1) for kind in ("kernel", "relay")}  # fmt: skip
        plan = Plan({name: host.ipv4 for name, host in hosts.items()}, TCP, UDP)
        scene = Scene(client, etcd, Load(client, plan), engines)
        for name, engine in engines.items():
            _start(scene, stack, _registrar(etcd, engine, steady=pairs > 1 and name == "a"))
        for name, host in hosts.items():
            steady = pairs > 1 and name.endswith("1")
            if name.startswith("kernel"):
                _start(scene, stack, _simple_amb(etcd, host, name, folder, steady=steady))
            proxy = _dynproxy(etcd, host, name, folder, steady=steady)
            _start(scene, stack, proxy)
            scene.proxies[name] = proxy
        for each in scene.ours.values():
            if each.module != "simple_amb":
                each.wait_ready()
        stack.enter_context(scene.load)
        yield scene


def _start(scene: Scene, stack: ExitStack, program: Ours) -> None:
    scene.ours[program.name] = stack.enter_context(program)


def _registrar(etcd: Etcd, engine: DockerHost, *, steady: bool) -> Ours:
    arguments = (
        *("--etcd", ",".join(etcd.endpoints), "--docker", engine.engine.url, "--admin", ADMIN),
        *("--advertise", engine.host.ipv4, "--host-id", engine.name),
    )
    return Ours(f"registrar-{engine.name}", engine.host, "registrar", arguments, steady)


def _simple_amb(etcd: Etcd, host: Host, proxy: str, folder: Path, *, steady: bool) -> Ours:
    arguments = ("--listen", "127.0.0.1:2379", "--hand-over", f"{folder}/simple-amb.{proxy}", *etcd.addresses)
    return Ours(f"simple-amb of {proxy}", host, "simple_amb", arguments, steady)


def _dynproxy(etcd: Etcd, host: Host, name: str, folder: Path, *, steady: bool) -> Ours:
    kind = name.partition("-")[0]
    host.setting("net.ipv4.ip_forward", "1")
    host.setting("net.ipv4.conf.all.send_redirects", "0")  # all hosts are on one wire
    host.setting("net.ipv4.conf.eth0.send_redirects", "0")
    state = folder / f"state.{name}"
    state.mkdir(mode=0o700)
    way = "http://127.0.0.1:2379" if kind == "kernel" else ",".join(etcd.endpoints)
    arguments = (
        *(f"web:{TCP}", f"dns:{UDP}", "--listen", host.ipv4, "--etcd", way, "--admin", ADMIN),
        *("--plane", kind, "--on-exit", "keep", "--drain", DRAIN),
        *("--hand-over", f"{folder}/dynproxy.{name}", "--state", str(state)),
    )
    return Ours(f"dynproxy {name}", host, "dynproxy", arguments, steady, handed=kept_sockets(host, (TCP, UDP)))
