"""The images by themselves: arguments, users, ports, what is in them, how they stop."""

from __future__ import annotations

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ambcore.version import VERSION
from tests.support.waiting import eventually
from tests.system.containers import PROGRAMS, ROOT, SMALL, address, container, docker, image, logs

pytestmark = [pytest.mark.docker, pytest.mark.system]

NOBODY = "http://127.0.0.1:1"  # no etcd there: refused at once


@pytest.fixture(scope="module", autouse=True)
def _images_are_built() -> None:
    if missing := [name for name in PROGRAMS if not docker("images", "--quiet", image(name))]:
        pytest.fail(f"images missing: {', '.join(missing)}; scripts/images builds them")


def _config(name: str, field: str) -> str:
    return docker("inspect", "--format", f"{{{{json .Config.{field}}}}}", image(name))


@pytest.mark.parametrize(
    ("name", "option", "arguments"),
    [
        ("simple-amb", "--listen", ["--listen", "port", "127.0.0.1:1"]),
        ("ambassador", "HOST:PORT", []),
        ("registrar", "--ttl", ["--ttl", "soon", "redis-demo.service", "6379", "redis-A"]),
        ("dynproxy", "--workers", ["--workers", "many", "redis-A", "6379"]),
        ("grand-ambassador", "-name", []),
        ("ambctl", "--no-such-option", ["--no-such-option", "ls"]),
    ],
)
def test_arguments_reach_the_program_and_a_bad_one_exits_2(name: str, option: str, arguments: list[str]) -> None:
    """The ENTRYPOINT passes the arguments on, and the container's exit code is the program's."""
    command = ["docker", "run", "--rm", image(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert option in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "user"), [(name, '"ambassador"') for name in (*SMALL, "ambctl")])
def test_what_needs_no_right_is_not_root(name: str, user: str) -> None:
    assert _config(name, "User") == user


@pytest.mark.parametrize(("given", "rights"), [((), 0), (("--cap-add", "NET_ADMIN"), 1 << 12)])
def test_dynproxy_is_root_without_a_right_that_it_is_not_given(given: tuple[str, ...], rights: int) -> None:
    """Docker gives a capability to root alone; nothing in the image, file capabilities included, adds to it."""
    confined = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", *given)
    found = docker("run", "--rm", *confined, "--entrypoint", "cat", image("dynproxy"), "/proc/self/status")
    facts = dict(line.split(":\t", 1) for line in found.splitlines() if ":\t" in line)
    assert facts["Uid"].split()[0] == "0"
    assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {rights}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_image_says_what_it_is(name: str) -> None:
    labels = json.loads(_config(name, "Labels"))
    said = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert said["title"] == name
    assert said["version"] == VERSION
    assert said["licenses"] == "Apache-2.0"
    assert said["description"]


def test_simple_amb_exposes_its_port_so_that_a_link_names_it() -> None:
    assert _config("simple-amb", "ExposedPorts") == '{"10000/tcp":{}}'


def test_ambassador_exposes_nothing_so_that_a_link_names_its_forwards_alone() -> None:
    assert _config("ambassador", "ExposedPorts") == "null"


@pytest.mark.parametrize("name", SMALL)
def test_the_small_ones_carry_none_of_the_dependencies(name: str) -> None:
    ask = "import sys, importlib.util as util; print([name for name in sys.argv[1:] if util.find_spec(name)])"
    modules = ("ambnet", "grpc", "aiohttp", "docker", "aetcd", "prometheus_client")
    assert docker("run", "--rm", "--entrypoint", "python3", image(name), "-c", ask, *modules) == "['ambnet']"


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_image_is_small(name: str) -> None:
    """In MB; Debian's base is 78 of them, Python 28, gRPC and the other dependencies 42, nft and iptables 5; what draws
    on ambctl's terminal 12.
    """
    most = 115 if name in SMALL else 170 if name == "ambctl" else 160
    assert int(docker("inspect", "--format", "{{.Size}}", image(name))) / 1e6 < most


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with container(image("demo-redis")) as name:
        yield name


def test_a_linked_client_talks_through_simple_amb(redis: str) -> None:
    """The link's variables lead to port 10000, and that leads to the target, from a read-only file system."""
    confined = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    with container(*confined, image("simple-amb"), f"{address(redis)}:6379") as amb:
        ask = 'exec redis-cli -h "$STORE_PORT_10000_TCP_ADDR" -p "$STORE_PORT_10000_TCP_PORT" ping'
        client = ("run", "--rm", "--link", f"{amb}:store", image("demo-redis"), "sh", "-c", ask)
        assert eventually(lambda: docker(*client), 15) == "PONG"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("simple-amb", ["127.0.0.1:1"]),
        ("dynproxy", ["--etcd", NOBODY, "redis-A", "6379"]),
        ("registrar", ["--etcd", NOBODY, "redis-demo.service", "6379", "redis-A"]),
    ],
)
def test_docker_stop_ends_the_program_with_0(name: str, arguments: list[str]) -> None:
    """As process 1, where signals without a handler do nothing, and with no etcd to say good-bye to."""
    with container(image(name), *arguments) as running:
        eventually(lambda: logs(running), 15, "the program says something")
        docker("stop", "--time", "9", running)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", running) == "0", logs(running)


def test_dynproxy_serves_a_port_below_1024_without_a_capability() -> None:
    confined = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    with container(*confined, image("dynproxy"), "--etcd", NOBODY, "web", "80") as running:

        def connects() -> bool:
            try:
                socket.create_connection((address(running), 80), timeout=2).close()
            except OSError as error:
                raise AssertionError(f"{error}: {logs(running)}") from error
            return True

        eventually(connects, 15, "port 80 is served")


def _healthcheck(admin: str) -> int:
    """Exit code of the images' HEALTHCHECK for a value of AMB_ADMIN."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/healthcheck.py")], env={**os.environ, "AMB_ADMIN": admin}, check=False
    ).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_healthcheck_follows_healthz(status: int, code: int) -> None:
    class Healthz(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Healthz) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        # 0.0.0.0 is how a container's admin server listens; the check asks by way of loopback.
        assert _healthcheck(f"0.0.0.0:{server.server_port}") == code
        thread.join(10)


def test_healthcheck_is_content_without_an_admin_server_and_not_with_a_dead_one() -> None:
    assert _healthcheck("") == 0
    assert _healthcheck("127.0.0.1:1") == 1


@pytest.mark.parametrize(("name", "has_grpc"), [("dynproxy", True), ("simple-amb", False)])
def test_the_bill_of_materials_names_what_is_in_an_image(name: str, has_grpc: bool) -> None:
    """What Debian brought and what was locked, each under the address by which scanners know it."""
    printed = [_sbom(name) for _ in range(2)]
    assert printed[0] == printed[1]
    bill = json.loads(printed[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["version"] == VERSION
    addresses = {each["purl"] for each in bill["components"]}
    assert any(each.startswith("pkg:deb/debian/python3-minimal@3.13.") for each in addresses)
    locked = re.findall(r"^(grpcio)==([^ ]+) ", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {f"pkg:pypi/{package}@{version}" for package, version in locked} & addresses == (
        {f"pkg:pypi/grpcio@{locked[0][1]}"} if has_grpc else set()
    )
    assert len(addresses) == len(bill["components"])


def _sbom(name: str) -> str:
    return subprocess.run([ROOT / "scripts/sbom", name], capture_output=True, text=True, check=True).stdout


def test_a_bill_of_materials_of_what_was_not_built_is_an_error() -> None:
    done = subprocess.run([ROOT / "scripts/sbom", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such object" in done.stderr
