"""`ambctl explain` on real parts: one fault each, and the first red line names it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.registrar.host_scene import host_registrar
from tests.registrar.scene import SERVICE, registrar
from tests.support.docker_engine import Docker, unique
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fault_proxy import FaultProxy
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program, fetch, status
from tests.support.relay_peers import black_hole, refusing
from tests.support.waiting import eventually, eventually_async

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

PREFIX, FLEET = "/explained/", "/explained-fleet/"
# A network whose gateway is an address of this host; runs beside this one have others.
SUBNET, GATEWAY = f"10.213.{81 + os.getpid() % 150}.0/24", f"10.213.{81 + os.getpid() % 150}.1"
SERVICES = ("well", "refuses", "dark", "ghost", "leaves", "silent")
SERVING = ("httpd", "-f", "-p", "80", "-h", "/www")


@dataclass(frozen=True)
class Told:
    """What ambctl said."""

    code: int
    document: dict[str, Any]

    @property
    def first_red(self) -> str:
        """`topic: what was found`, of the step that is said to be the cause; empty where nothing is red."""
        steps = self.document["steps"]
        reds = [step["number"] for step in steps if step["level"] == "red"]
        assert self.document["cause"] == (reds[0] if reds else None)
        return f"{steps[reds[0] - 1]['topic']}: {steps[reds[0] - 1]['says']}" if reds else ""

    @property
    def to_do(self) -> str:
        """What is to be done about it."""
        return str(self.document["steps"][self.document["cause"] - 1]["do"])

    def says(self, by: str, topic: str) -> dict[str, Any]:
        """The first step of a source about a topic."""
        found = [step for step in self.document["steps"] if by in step["by"] and step["topic"] == topic]
        assert found, f"nothing by {by} about {topic} in {json.dumps(self.document, indent=1)}"
        step: dict[str, Any] = found[0]
        return step


@dataclass(frozen=True)
class Scene:
    """An etcd, a Docker engine, registrar for it, one dynproxy for SERVICES."""

    etcd: EtcdCluster
    docker: Docker
    network: str
    registrar: str
    proxy: str

    def run(self, *options: str, published: str = GATEWAY, command: tuple[str, ...] = SERVING) -> str:
        """A container whose port 80 is published at an address of this host."""
        return self.docker.run("--network", self.network, "-p", f"{published}::80", *options, command=command)

    def put(self, service: str, instance: str, host: str, port: int, *, leased: bool = True) -> None:
        """A record by another client."""
        value = json.dumps({"host": host, "port": port})
        lease = self.etcd.etcdctl("lease", "grant", "120").split()[1] if leased else "0"
        self.etcd.etcdctl("put", f"--lease={lease}", f"{PREFIX}{service}/{instance}", "--", value)

    def delete(self, service: str, instance: str) -> None:
        self.etcd.etcdctl("del", f"{PREFIX}{service}/{instance}")

    def registers(self, container: str) -> None:
        """Wait until a container has a record."""
        eventually(lambda: container in _containers(self.registrar, "registered"), 20, f"{container} is registered")

    def refuses(self, container: str, state: str) -> None:
        """Wait until registrar says that a container is not registered for this reason."""
        wanted = {"container": container, "state": state}

        def look() -> bool:
            return any(wanted.items() <= each.items() for each in status(self.registrar)["not_registered"])

        eventually(look, 20, f"{container} is {state}")

    def proxy_sees(self, service: str, *instances: str) -> None:
        eventually(lambda: _seen(self.proxy, service) == {*instances}, 20, f"{service} is {instances}")

    def proxy_reaches(self, service: str, instance: str) -> None:
        """Wait until a check of the proxy has passed."""

        def look() -> bool:
            found = next(each for each in status(self.proxy)["services"] if each["name"] == service)
            checks = {item["id"]: item["check"] for item in found["instances"] or ()}
            check = checks.get(instance) or {"state": "unknown", "seconds": None}
            return check["state"] == "up" and check["seconds"] is not None

        eventually(look, 20, f"{instance} answers")

    def explain(self, name: str, *options: str) -> Told:
        done = ambctl("explain", name, "--json", "--etcd", ",".join(self.etcd.endpoints), *options)
        assert done.stderr == ""
        return Told(done.returncode, json.loads(done.stdout))


def ambctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    fixed = ("--prefix", PREFIX, "--fleet-prefix", FLEET, "--instances-in", f"127.0.0.0/8,{SUBNET}")
    command = [sys.executable, "-m", "ambctl", "--timeout", "30", *arguments, *fixed]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def proxy(etcd: str, admin: str, *services: str) -> Program:
    fronts = [f"{service}:{free_port()}" for service in services]
    where = ("--etcd", etcd, "--prefix", PREFIX, "--fleet-prefix", FLEET, "--admin", admin, "--listen", "127.0.0.1")
    fixed = ("--instances-in", f"127.0.0.0/8,{SUBNET}", "--plane", "relay", "--drain", "1", "--check-interval", "0.5")
    return Program("dynproxy", *fronts, *where, *fixed)


def _containers(registrar: str, part: str) -> set[str]:
    return {entry["container"] for entry in status(registrar)[part]}


def _seen(admin: str, service: str) -> set[str]:
    found = next(each for each in status(admin)["services"] if each["name"] == service)
    return {item["id"] for item in found["instances"] or ()}


@pytest.fixture(scope="module")
def scene(shared_etcd: EtcdCluster) -> Iterator[Scene]:
    of_all, admin, network = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", unique("net")
    # --explicit: of what else runs on this machine, nothing is registered that does not ask for it.
    options = ("--explicit", "--admin", of_all, "--fleet-prefix", FLEET)
    with (
        _network(network),
        Docker() as docker,
        host_registrar(shared_etcd, PREFIX, *options),
        proxy(",".join(shared_etcd.endpoints), admin, *SERVICES),
    ):
        for each in (of_all, admin):
            eventually(lambda each=each: fetch(f"http://{each}/readyz")[0] == 200, 40, "both are ready")  # type: ignore[misc]
        eventually(lambda: "dynproxy" in _programs(shared_etcd) and "registrar" in _programs(shared_etcd), 20)
        yield Scene(shared_etcd, docker, network, of_all, admin)


@contextlib.contextmanager
def _network(name: str) -> Iterator[None]:
    Docker()("network", "create", "--subnet", SUBNET, name)
    try:
        yield
    finally:
        Docker()("network", "rm", name)


def _programs(etcd: EtcdCluster) -> str:
    return etcd.etcdctl("get", "--prefix", "--keys-only", f"{FLEET}programs/")


def test_what_is_well_is_told_step_by_step(scene: Scene) -> None:
    """By its container, its service and its instance: from Docker to the proxy, and nothing is red."""
    name = scene.run("--label", "SERVICE_80_NAME=well", "-e", "SERVICE_NAME=lost")
    scene.registers(name)
    instance = f"here:{name}:80"
    scene.proxy_reaches("well", instance)
    port = scene.docker.port(name)
    told = scene.explain(name)
    assert (told.code, told.first_red) == (0, "")
    assert told.document["taken_for"] == ["container"]
    assert f"80/tcp at {GATEWAY}:{port}" in told.says("registrar", "ports")["says"]
    service = told.says("registrar", "service")["says"]
    assert service.endswith("label SERVICE_80_NAME=well; variable SERVICE_NAME=lost lost against it")
    assert f"reached at {GATEWAY}:{port}: the address it is bound to" in told.says("registrar", "address")["says"]
    record = told.says("etcd", "record")["says"]
    assert f"well/{instance} is at {GATEWAY}:{port}, kept by here, under lease" in record
    assert "s left" in record
    assert "answers in" in told.says("dial", "dial")["says"]
    assert "carried by the relay: chosen by --plane relay" in told.says("dynproxy", "proxy")["says"]
    assert told.says("dynproxy", "instance")["says"].startswith(f"{instance} at {GATEWAY}:{port} ")
    for asked, kind in (("well", "service"), (f"well/{instance}", "instance")):
        told = scene.explain(asked)
        assert (told.code, told.first_red, told.document["taken_for"]) == (0, "", [kind])
        assert told.says("dynproxy", "instance")["level"] == "green"


def test_fault_port_not_published(scene: Scene) -> None:
    name = scene.docker.run("--expose", "80", "--label", "SERVICE_NAME=shut", command=SERVING)
    scene.refuses(name, "not-published")
    told = scene.explain("shut")
    assert told.code == 1
    assert told.first_red == f"ports: {name} publishes no port; it exposes 80/tcp, which is not enough"
    assert told.to_do.startswith("run it with -p ADDRESS::80")


def test_fault_bound_to_loopback(scene: Scene) -> None:
    name = scene.run("--label", "SERVICE_NAME=inward", published="127.0.0.1")
    scene.refuses(name, "unreachable-address")
    told = scene.explain(name)
    assert told.code == 1
    why = f"port 80/tcp of {name} is published on 127.0.0.1 only, which every host has to itself"
    assert told.first_red == f"address: {why}"
    assert told.to_do == "publish it on an address of this host"


def test_fault_unhealthy(scene: Scene) -> None:
    check = ("--health-cmd", "echo the disk is full; exit 3", "--health-interval", "1s", "--health-retries", "1")
    name = scene.run("--label", "SERVICE_NAME=ill", *check)
    scene.refuses(name, "unhealthy")
    told = scene.explain(name)
    assert told.code == 1
    assert told.first_red == f"health: {name} fails its health check: exit code 3, the disk is full"


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("service_name", "it would have to be called SERVICE_NAME"),
        ("SERVICE_8080_NAME", "it is for port 8080, and the container's are 80/tcp"),
    ],
)
def test_fault_wrong_label(scene: Scene, label: str, why: str) -> None:
    """Who asks for the service that never came is told of the container that meant to be it."""
    service = unique("meant")
    name = scene.run("--label", f"{label}={service}")
    scene.refuses(name, "unnamed")
    told = scene.explain(service)
    assert told.code == 1
    assert told.first_red == f"label: label {label}={service} of {name} does not count: {why}"


def test_fault_record_without_lease(scene: Scene) -> None:
    """Amber while its instance lives; when that has gone, it is why a dead instance is offered."""
    with NamedServer("ghost") as server:
        scene.put("ghost", "by-hand", "127.0.0.1", server.port, leased=False)
        scene.proxy_sees("ghost", "by-hand")
        told = scene.explain("ghost")
        assert (told.code, told.first_red) == (0, "")
        assert told.says("etcd", "record")["level"] == "amber"

    def check() -> str:
        found = next(each for each in status(scene.proxy)["services"] if each["name"] == "ghost")
        return str(found["instances"][0]["check"]["state"])

    eventually(lambda: check() == "down", 20, "its checks fail")
    told = scene.explain("ghost")
    assert told.code == 1
    gone = f"nobody took it away when 127.0.0.1:{server.port} went (refused)"
    assert told.first_red == f"record: ghost/by-hand has no lease, so {gone}"
    assert told.to_do.startswith("ambctl rm ghost by-hand")
    scene.delete("ghost", "by-hand")


def test_fault_instance_refuses(scene: Scene) -> None:
    """Its record is in order, and nobody listens: in the container, or where another registrar said."""
    name = scene.run("--label", "SERVICE_NAME=refuses", command=("sleep", "86400"))
    scene.registers(name)
    # With Docker's own proxy before the container it is that which takes the connection, and soon ends it.
    where = f"dial: refuses/here:{name}:80 at {GATEWAY}:{scene.docker.port(name)} "
    told = eventually(lambda: found if (found := scene.explain(name)).first_red.startswith(where) else None, 30)
    assert told is not None
    assert told.code == 1
    assert "refuses connections" in told.first_red or "ends it at once" in told.first_red
    scene.docker("rm", "-f", name)
    host, port = refusing()
    scene.put("refuses", "other", host, port)
    told = scene.explain("refuses/other")
    assert told.first_red.startswith(f"dial: refuses/other at {host}:{port} refuses connections")


def test_fault_instance_black_holed(scene: Scene) -> None:
    with black_hole() as (host, port):
        scene.put("dark", "one", host, port)
        scene.proxy_sees("dark", "one")
        told = scene.explain("dark")
    assert told.code == 1
    assert told.first_red == f"dial: dark/one at {host}:{port} does not answer at all: no refusal, no connection"
    assert "firewall" in told.to_do


async def test_fault_stale_proxy_view(scene: Scene) -> None:
    """A proxy that hears nothing from etcd any more, without knowing it, while a record changes."""
    admin = f"127.0.0.1:{free_port()}"
    with NamedServer("a") as a, NamedServer("b") as b:
        async with FaultProxy(scene.etcd.endpoints[0]) as gate:
            with proxy(gate.url, admin, "moves"):
                await asyncio.to_thread(scene.put, "moves", "one", "127.0.0.1", a.port)

                async def seen() -> bool:
                    return await asyncio.to_thread(_seen, admin, "moves") == {"one"}

                await eventually_async(seen, 20, "the proxy sees it")
                gate.mute()
                await asyncio.to_thread(scene.put, "moves", "one", "127.0.0.1", b.port)
                told = await asyncio.to_thread(scene.explain, "moves", "--ask", admin)
                gate.restore()
    assert told.code == 1
    assert told.first_red.startswith("view: its view is stale: it has one at ")
    assert f"127.0.0.1:{a.port}, etcd has it at 127.0.0.1:{b.port}; it has not heard from etcd for " in told.first_red


def test_the_one_container_that_registrar_was_given_is_told_from_the_start(scene: Scene) -> None:
    """That there is none yet, and how it is reached once there is."""
    name, admin = scene.docker.name(), f"127.0.0.1:{free_port()}"
    with registrar(scene.etcd, PREFIX, name, "--fleet-prefix", FLEET, "--admin", admin):
        eventually(lambda: fetch(f"http://{admin}/readyz")[0] == 200, 40, "it is ready")
        told = scene.explain(name, "--ask", admin)
        assert (told.code, told.first_red) == (1, f"container: no container is called {name}")
        options = ("--network", scene.network, "-p", f"{GATEWAY}::80")
        scene.docker.run(*options, name=name, command=SERVING)
        eventually(lambda: status(admin)["held"] is not None, 20, "it is registered")
        well = eventually(lambda: found if (found := scene.explain(f"{SERVICE}/{name}")).code == 0 else None, 30)
        assert well is not None
        says = f"{name} is registered as {SERVICE}, as registrar's command line says"
        assert well.says("registrar", "service")["says"] == says


def test_an_operators_drain_is_told_by_whom(scene: Scene) -> None:
    with NamedServer("leaves") as server:
        scene.put("leaves", "one", "127.0.0.1", server.port)
        scene.proxy_sees("leaves", "one")
        assert ambctl(*_drain(scene, "drain"), "--why", "new disk", "--force").returncode == 0
        told = scene.explain("leaves/one")
        record = told.says("etcd", "record")
        assert record["level"] == "amber"
        assert "new disk" in record["says"]
        assert ambctl(*_drain(scene, "undrain")).returncode == 0


def _drain(scene: Scene, verb: str) -> tuple[str, ...]:
    return verb, "leaves", "one", "--etcd", ",".join(scene.etcd.endpoints)


def test_a_program_that_cannot_be_asked_is_said_so_and_is_no_fault(scene: Scene) -> None:
    """One that is announced and does not answer; another on the loopback of another host."""
    for name, admin in (("mute", f"http://127.0.0.1:{free_port()}"), ("far", "http://127.0.0.1:7")):
        host = "elsewhere" if name == "far" else _host()
        value = {"host": host, "version": "1", "since": "2026-01-02T03:04:05Z", "admin": admin, "services": ["silent"]}
        scene.etcd.etcdctl("put", f"{FLEET}programs/dynproxy/{name}", "--", json.dumps(value))
    try:
        with NamedServer("silent") as server:
            scene.put("silent", "one", "127.0.0.1", server.port)
            scene.proxy_sees("silent", "one")
            told = scene.explain("silent")
        assert (told.code, told.first_red) == (0, "")
        unknown = [step["says"] for step in told.document["steps"] if step["level"] == "unknown"]
        assert any(
            "on elsewhere could not be asked: its admin server is on its own loopback" in each for each in unknown
        )
        assert any(f"on {_host()} could not be asked: http://127.0.0.1:" in each for each in unknown)
    finally:
        for name in ("mute", "far"):
            scene.etcd.etcdctl("del", f"{FLEET}programs/dynproxy/{name}")


def _host() -> str:
    return subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()


def test_a_name_that_nobody_knows_says_what_was_looked_at_and_what_resembles_it(scene: Scene) -> None:
    scene.put("silent", "resembled", "127.0.0.1", 1)
    told = scene.explain("silent/resembled-not")
    assert (told.code, told.document["taken_for"]) == (1, [])
    assert told.document["near"][0] == "silent/resembled"
    text = ambctl("explain", "reesembled", "--etcd", ",".join(scene.etcd.endpoints)).stdout
    assert "nobody knows reesembled: looked at every record, every program that is announced, and Docker here" in text
    assert "names that resemble it: resembled" in text
    scene.delete("silent", "resembled")


def test_without_etcd_docker_here_is_explained_all_the_same(scene: Scene) -> None:
    """Exit code 3 where nothing is red, and the text ends with the cause where something is."""
    nowhere = ("--etcd", f"http://127.0.0.1:{free_port()}", "--timeout", "0.5")
    well = scene.run("--label", "SERVICE_NAME=alone")
    done = ambctl("explain", well, *nowhere)
    assert done.returncode == 3
    assert re.search(rf"{well} \(\w+\) runs since", done.stdout)
    assert "etcd could not be asked" in done.stdout
    inward = scene.run("--label", "SERVICE_NAME=alone", published="127.0.0.1")
    done = ambctl("explain", inward, *nowhere)
    assert done.returncode == 1
    assert re.match(r"red +the cause .*published on 127.0.0.1 only", done.stdout.strip().splitlines()[-1])
    done = ambctl("explain", inward, *nowhere, "--docker", "unix:///nowhere")
    assert done.returncode == 3
    assert "the Docker daemon here could not be asked either" in done.stdout
