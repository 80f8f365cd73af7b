"""`dynproxy --links`, on real Docker and real etcd: consumers say what they want by a label, and get it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ambcore.links import LABEL
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program, _clean_environment, fetch, status
from tests.support.udp_server import UdpServer
from tests.support.waiting import eventually
from tests.system.containers import address, container, docker, image, logs
from tests.system.proxies import Records

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.system]

REDIS = image("demo-redis")


class HostProxy(Program):
    """dynproxy for all of the host's consumers, as a process on the host."""

    def __init__(self, etcd: EtcdCluster, *options: str) -> None:
        self.admin = f"127.0.0.1:{free_port()}"
        where = ("--etcd", ",".join(etcd.endpoints), "--admin", self.admin)
        super().__init__("dynproxy", "--links", *where, "--drain", "1", "--park", "30", *options)

    def links(self) -> dict[str, Any]:
        found: dict[str, Any] = status(self.admin)["links"]
        return found

    def listeners(self, service: str) -> dict[str, list[str]]:
        """Where it listens for a service, and for whom."""
        found = [each for each in self.links()["listeners"] if each["service"] == service and each["open"]]
        return {each["address"]: each["for"] for each in found}

    def wait_ready(self) -> None:
        eventually(lambda: fetch(f"http://{self.admin}/readyz")[0] == 200, 20, "ready")


@pytest.fixture
def proxy(shared_etcd: EtcdCluster) -> Iterator[HostProxy]:
    with HostProxy(shared_etcd) as made:
        made.wait_ready()
        yield made


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """The address of a redis on this host."""
    with container(REDIS) as name:
        yield address(name)


@pytest.fixture
def served(redis: str, records: Records) -> Records:
    """The records of the test's service, whose only instance is that redis."""
    records.put("one", 6379, redis)
    return records


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A network of the user's own."""
    name = f"amb-test-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


def gateway(network: str = "bridge") -> str:
    return docker("network", "inspect", network, "--format", "{{(index .IPAM.Config 0).Gateway}}")


@contextlib.contextmanager
def consumer(label: str, *options: str, command: tuple[str, ...] = ("sleep", "600")) -> Iterator[str]:
    """A container that bears the label, created and not yet started."""
    name = f"amb-test-{uuid.uuid4().hex[:8]}"
    try:
        docker("create", "--init", "--name", name, "--label", f"{LABEL}={label}", *options, REDIS, *command)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def ping(variable: str, port: int) -> tuple[str, ...]:
    """A command that finds redis by its link."""
    name = f"{variable}_PORT_{port}_TCP"
    return ("sh", "-c", f"timeout 30 redis-cli -h ${name}_ADDR -p ${name}_PORT ping")


def env_file(folder: Path, *arguments: str) -> str:
    """What `ambctl env` prints, as a file."""
    command = [sys.executable, "-m", "ambctl", "env", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=_clean_environment(), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    path = folder / "links.env"
    path.write_text(done.stdout)
    return str(path)


def refuses(host: str, port: int) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) != 0


@pytest.mark.parametrize("where", ["default bridge", "own network", "host"])
def test_a_consumer_reaches_its_link_by_the_variables(
    proxy: HostProxy, served: Records, network: str, where: str, tmp_path: Path
) -> None:
    """Its listener is there before it starts: the only connection it makes is answered."""
    name = {"default bridge": "bridge", "own network": network}.get(where, where)
    host = "127.0.0.1" if name == "host" else gateway(name)
    port = free_port(host)
    link = f"{served.service}:{port}"
    file = env_file(tmp_path, "--network", name, f"my-redis={link}")
    options = ("--network", name, "--env-file", file)
    with consumer(link, *options, command=ping("MY_REDIS", port)) as made:
        eventually(lambda: proxy.listeners(served.service) == {f"{host}:{port}": [made]}, 20, "the listener")
        assert docker("start", "--attach", made) == "PONG"
    eventually(lambda: refuses(host, port), 10, "the listener is closed with its last consumer")
    assert proxy.listeners(served.service) == {}


def test_datagrams_have_links_too(shared_etcd: EtcdCluster, records: Records, tmp_path: Path) -> None:
    host = gateway()
    port = free_port(host)
    link = f"{records.service}:{port}/udp"
    file = env_file(tmp_path, f"dns={link}")
    where = f"/dev/udp/$DNS_PORT_{port}_UDP_ADDR/$DNS_PORT_{port}_UDP_PORT"
    ask = ("bash", "-c", f"exec 3<>{where}; printf 'who?' >&3; timeout 20 head -c 3 <&3")
    with (
        UdpServer("one", host) as server,
        HostProxy(shared_etcd, "--instances-in", host) as proxy,
        consumer(link, "--env-file", file, command=ask) as made,
    ):
        records.put("one", server.port, host, protocol="udp")

        def known() -> bool:
            services = status(proxy.admin)["services"]
            return any(each["instances"] for each in services if each["name"] == records.service)

        eventually(known, 20, "the instance: a datagram does not wait for one")
        assert docker("start", "--attach", made) == "one"


def test_two_consumers_share_a_listener_and_the_last_closes_it(proxy: HostProxy, records: Records) -> None:
    host = gateway()
    port = free_port(host)
    link = f"{records.service}:{port}"
    with consumer(link) as one:
        with consumer(f"x={link}") as two:
            eventually(lambda: proxy.listeners(records.service) == {f"{host}:{port}": [one, two]}, 10, "both")
        eventually(lambda: proxy.listeners(records.service) == {f"{host}:{port}": [one]}, 10, "one is left")
        assert not refuses(host, port)
    eventually(lambda: refuses(host, port), 10, "nobody is left")

    def forgotten() -> bool:
        return records.service not in [each["name"] for each in status(proxy.admin)["services"]]

    eventually(forgotten, 10, "nor is the service followed")


def test_a_consumer_that_starts_before_any_instance_waits_for_it(
    proxy: HostProxy, redis: str, records: Records, tmp_path: Path
) -> None:
    port = free_port(gateway())
    link = f"{records.service}:{port}"
    file = env_file(tmp_path, f"r={link}")
    with consumer(link, "--env-file", file, command=ping("R", port)) as made:
        eventually(lambda: proxy.listeners(records.service), 10, "the listener")
        docker("start", made)

        def parked() -> bool:
            return any(each["parked"] for each in status(proxy.admin)["services"] if each["name"] == records.service)

        eventually(parked, 10, "its connection waits")
        records.put("one", 6379, redis)
        eventually(lambda: docker("logs", made) == "PONG", 20, "and is answered")


def test_a_bad_label_is_refused_with_the_reason(proxy: HostProxy, records: Records) -> None:
    with consumer(f"{records.service}:{free_port()},pg") as made:

        def reasons() -> list[str]:
            return [each["why"] for each in proxy.links()["refused"] if each["container"] == made]

        why = "the label ambassador.links: expected SERVICE:PORT or ALIAS=SERVICE:PORT, not 'pg'"
        assert eventually(reasons, 10, "the refusal") == [why]
        assert proxy.listeners(records.service) == {}
        eventually(lambda: proxy.log.count(f"{made}: no links: {why}") == 1, 10, "it is said, once")


def test_the_elder_keeps_a_port_until_it_is_removed(proxy: HostProxy, records: Records) -> None:
    host = gateway()
    port = free_port(host)
    with consumer(f"{records.service}-2:{port}") as old:
        eventually(lambda: proxy.listeners(f"{records.service}-2"), 10, "the elder is served")
        with consumer(f"{records.service}:{port}") as new:

            def refused() -> bool:
                return new in [each["container"] for each in proxy.links()["refused"]]

            eventually(refused, 10, "the younger is not")
            docker("rm", "--force", old)
            eventually(lambda: proxy.listeners(records.service) == {f"{host}:{port}": [new]}, 10, "now it is")
            assert not refused()


def test_a_port_that_somebody_holds_is_opened_when_it_is_free(proxy: HostProxy, records: Records) -> None:
    host = gateway()
    with socket.create_server((host, 0)) as holder:
        port = holder.getsockname()[1]
        with consumer(f"{records.service}:{port}"):

            def why() -> list[str]:
                found = [each for each in proxy.links()["listeners"] if each["service"] == records.service]
                return [each["why"] for each in found if not each["open"]]

            assert eventually(why, 10, "the reason") == [f"{host}:{port}: Address already in use"]
            holder.close()
            eventually(lambda: proxy.listeners(records.service), 20, "the listener")


def test_a_restarted_dynproxy_opens_what_there_is(shared_etcd: EtcdCluster, served: Records, tmp_path: Path) -> None:
    """Killed and not stopped, with a consumer that runs, beside a front of the command line."""
    port, own = free_port(gateway()), free_port()
    link = f"{served.service}:{port}"
    with consumer(link, "--env-file", env_file(tmp_path, f"r={link}")) as made:
        docker("start", made)
        for _ in range(2):
            with HostProxy(shared_etcd, f"{served.service}:{own}") as proxy:
                eventually(lambda: proxy.listeners(served.service), 20, "the listener")
                assert docker("exec", made, *ping("R", port)) == "PONG"
                proxy.wait_ready()
                with socket.create_connection(("127.0.0.1", own), 10) as client:
                    client.sendall(b"PING\r\n")
                    assert client.recv(100) == b"+PONG\r\n"
                proxy.kill()


def test_in_a_container_it_says_what_to_do(shared_etcd: EtcdCluster, records: Records) -> None:
    """It has none of the gateways there."""
    socket_file = "/var/run/docker.sock:/var/run/docker.sock"
    options = ("-e", f"AMB_ETCD={','.join(shared_etcd.endpoints)}", "-v", socket_file)
    with consumer(f"{records.service}:{free_port()}"), container(*options, image("dynproxy"), "--links") as ours:
        why = "is no address of ours: run dynproxy with --network host"
        eventually(lambda: why in logs(ours), 30, "the reason and the way out")


def test_the_example_of_the_documentation(shared_etcd: EtcdCluster, served: Records, tmp_path: Path) -> None:
    """Every block of docs/links.md, as it stands but for names and ports that this machine may have in use."""
    port = free_port(gateway())
    variable = re.sub(r"[^A-Z0-9_]", "_", served.service.upper())
    unique = uuid.uuid4().hex[:8]
    names = {
        "--name links": f"--name amb-test-{unique}",
        "http://127.0.0.1:2379": ",".join(shared_etcd.endpoints),
        "--network app": f"--network amb-test-{unique}",
        "network create app": f"network create amb-test-{unique}",
        "REDIS_A": variable,
        "redis-A": served.service,
        "6379": str(port),
    }
    started, asked, create, on_its_own = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/links.md").read_text(), re.DOTALL)
    (tmp_path / "ambctl").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ambctl "$@"\n')
    (tmp_path / "ambctl").chmod(0o755)
    environment = {**_clean_environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def run(block: str) -> str:
        for shown, used in names.items():
            block = block.replace(shown, used)
        done = subprocess.run(
            ["bash", "-euc", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        return done.stdout

    try:
        run(started)
        # It has to know of containers before it can be in time for a new one.
        eventually(lambda: "ask for links" in logs(f"amb-test-{unique}"), 30, "dynproxy has started")
        # On a machine that is busy a container may be quicker than we are, which the document says.
        eventually(lambda: run(asked) == "PONG\n", 30)
        run(create)
        eventually(lambda: run(on_its_own) == "PONG\n", 30)
    finally:
        for command in (("rm", "--force", f"amb-test-{unique}"), ("network", "rm", f"amb-test-{unique}")):
            subprocess.run(["docker", *command], capture_output=True, check=False)
