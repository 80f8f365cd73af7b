"""Docker's socket behind the filter of docs/security.md: whoever reads is served, whoever writes is not."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from tests.support.docker_engine import Docker
from tests.support.docker_filter import docker_filter
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program, status
from tests.support.waiting import eventually

pytestmark = pytest.mark.docker

WRITES = (
    *("POST /containers/create", "POST /containers/NAME/start", "POST /containers/NAME/exec", "POST /exec/1/start"),
    *(
        "POST /containers/NAME/stop",
        "POST /containers/NAME/kill",
        "POST /containers/prune",
        "POST /build",
        "POST /auth",
    ),
    *("DELETE /containers/NAME", "DELETE /volumes/v", "DELETE /networks/bridge", "PUT /containers/NAME/archive?path=/"),
    *("POST /images/create?fromImage=x", "POST /volumes/create", "POST /networks/create", "POST /swarm/init"),
    *("POST /v1.41/containers/create", "PATCH /containers/NAME/json", "POST /containers/NAME/json", "POST /events"),
    *("POST /containers/NAME/json/../start", "POST //containers/create", "POST /session", "POST /grpc"),
)
READS_TOO_MUCH = (
    *("/containers/NAME/archive?path=/etc/shadow", "/containers/NAME/logs?stdout=1", "/containers/NAME/export"),
    *("/containers/NAME/attach/ws?stream=1", "/secrets", "/configs", "/swarm/unlockkey", "/images/get?names=x"),
    *("/containers/NAME/archive%3f/json/", "/containers/NAME/json/../archive?path=/", "/v1.41/containers/a/b/json"),
)
READS = ("/_ping", "/version", "/info", "/containers/json?all=1", "/v1.41/containers/NAME/json", "/networks")


class OverUnix(http.client.HTTPConnection):
    """HTTP over a socket's path."""

    def __init__(self, url: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = url.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_filter(tmp_path_factory.mktemp("f")) as url:  # short: the path of a socket has 107 characters at most
        yield url


def asked(url: str, method: str, path: str) -> int:
    connection = OverUnix(url)
    try:
        connection.request(method, path, headers={"X-HTTP-Method-Override": "POST"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_every_request_that_writes_is_denied_by_the_filter_itself(filtered: str, docker: Docker) -> None:
    name = docker.run()
    told = {line: asked(filtered, *line.replace("NAME", name).split(" ")) for line in WRITES}
    assert told == dict.fromkeys(WRITES, 403)
    assert docker.inspect(name)["State"]["Running"]


def test_what_is_inside_containers_cannot_be_read(filtered: str, docker: Docker) -> None:
    name = docker.run()
    told = {path: asked(filtered, "GET", path.replace("NAME", name)) for path in READS_TOO_MUCH}
    assert told == dict.fromkeys(READS_TOO_MUCH, 403)
    served = {path: asked(filtered, "GET", path.replace("NAME", name)) for path in READS}
    assert served == dict.fromkeys(READS, 200)


def test_grand_ambassador_needs_no_more(filtered: str, docker: Docker) -> None:
    name = docker.run("--expose", "80")
    where = ("--listen", "127.0.0.1", "--plane", "relay", "--drain", "1")
    with Program("dynproxy.grand", "-name", name, "-sock", filtered, *where) as program:
        program.wait_for(f"{name}: it is at .*, with 80/tcp", 30)


@pytest.mark.etcd
def test_links_need_no_more(filtered: str, docker: Docker, shared_etcd: EtcdCluster) -> None:
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    name = docker.run("--label", f"ambassador.links=nobody:{port}")
    env = {"AMB_ETCD": ",".join(shared_etcd.endpoints), "DOCKER_HOST": filtered, "AMB_ADMIN": admin}

    def listens() -> bool:
        found = status(admin)["links"]["listeners"]
        return any(each["service"] == "nobody" and each["open"] and name in each["for"] for each in found)

    with Program("dynproxy", "--links", env=env):
        eventually(listens, 30, "the consumer's listener")
