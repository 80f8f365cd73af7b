"""`ambctl doctor` as a program, on real parts with one thing wrong: the first red line names it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from ambcore.errors import ConfigError
from ambcore.findings import Finding, Level
from ambctl.doctor.checks import one
from ambctl.doctor.scene import Scene
from ambctl.verbs import read
from tests.support.docker_engine import need_docker
from tests.support.etcd_cluster import EtcdCluster, Tls
from tests.support.etcd_users import let_in, password_in
from tests.support.fault_proxy import FaultProxy
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program, _clean_environment, fetch, status
from tests.support.tls import Authority
from tests.support.waiting import eventually

pytestmark = [pytest.mark.etcd, pytest.mark.system]

SERVICE = "redis-A"
LOOPBACK = ("--instances-in", "127.0.0.0/8")


@dataclass(frozen=True)
class Told:
    """What the doctor said."""

    code: int
    document: dict[str, Any]

    @property
    def cause(self) -> Finding:
        """The first red line."""
        assert self.document["cause"], self.document
        return Finding.of(self.document["cause"])

    def of(self, check: str) -> list[Finding]:
        """What one check found."""
        (found,) = (each["findings"] for each in self.document["checks"] if each["check"] == check)
        return [Finding.of(each) for each in found]


def doctor(*arguments: str) -> Told:
    """Run it to its end. Instances on loopback are welcome, as to the proxies here."""
    command = [sys.executable, "-m", "ambctl", "doctor", "--json", *LOOPBACK, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=_clean_environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == "", done.stderr
    return Told(done.returncode, json.loads(done.stdout))


class Corner:
    """A prefix and a fleet of a test's own, in an etcd that others use, too."""

    def __init__(self, etcd: EtcdCluster, prefix: str) -> None:
        self.etcd, self.prefix = etcd, prefix
        self.where = ("--etcd", ",".join(etcd.endpoints), "--prefix", prefix, "--fleet-prefix", f"/fleet{prefix}")

    def put(self, name: str, port: int, *options: str) -> None:
        """A record, on a lease that outlives the test; on none with `--lease=0`."""
        lease = self.etcd.etcdctl("lease", "grant", "600").split()[1]
        value = json.dumps({"host": "127.0.0.1", "port": port})
        self.etcd.etcdctl("put", f"{self.prefix}{SERVICE}/{name}", value, *(options or (f"--lease={lease}",)))

    def announced(self, number: int) -> None:
        """Until so many programs are."""

        def look() -> bool:
            lines = self.etcd.etcdctl("get", "--prefix", "--keys-only", f"/fleet{self.prefix}programs/").split()
            return len(lines) == number

        eventually(look, 20, f"{number} programs announced")

    def doctor(self, *arguments: str) -> Told:
        return doctor(*self.where, *arguments)


class Proxy(Program):
    """A dynproxy of the corner's service on loopback; `prefix` as for Program."""

    def __init__(self, corner: Corner, *options: str, prefix: Sequence[str] = ()) -> None:
        self.port, self.admin = free_port(), f"127.0.0.1:{free_port()}"
        fixed = ("--listen", "127.0.0.1", "--admin", self.admin, "--drain", "0", "--check-interval", "0", *LOOPBACK)
        super().__init__("dynproxy", SERVICE, str(self.port), *fixed, *corner.where, *options, prefix=prefix)

    def knows(self, *names: str) -> None:
        """Until it shows these instances."""

        def look() -> bool:
            assert fetch(f"http://{self.admin}/readyz")[0] == 200
            (service,) = status(self.admin)["services"]
            return sorted(each["id"] for each in service["instances"]) == sorted(names)

        eventually(look, 20, f"{names} known")


@pytest.fixture
def corner(shared_etcd: EtcdCluster, prefix: str) -> Corner:
    return Corner(shared_etcd, prefix)


@pytest.fixture(scope="module")
def server() -> Iterator[NamedServer]:
    with NamedServer("one") as running:
        yield running


def test_a_healthy_fleet_has_nothing_red(corner: Corner, server: NamedServer) -> None:
    """Three members, a registrar of the whole host on real Docker, a proxy and an instance that answers."""
    need_docker()
    corner.put("one", server.port)
    admin = ("--admin", f"127.0.0.1:{free_port()}")
    registrar = Program("registrar", "--advertise", "10.1.2.3", *admin, *corner.where)
    with registrar, Proxy(corner) as proxy:
        proxy.knows("one")
        eventually(lambda: fetch(f"http://{admin[1]}/readyz")[0] == 200, 20, "the registrar is ready")
        corner.announced(2)
        told = corner.doctor("--write-probe", "--port", str(free_port()))
    assert told.code == 0, told.document
    assert told.document["counts"]["red"] == 0
    assert told.document["cause"] is None
    assert len(told.of("etcd")) == 6, told.of("etcd")
    assert "3 members" in told.of("etcd")[3].says
    assert [finding.topic for finding in told.of("access")] == ["etcd access", "etcd writing", "etcd users"]
    assert {finding.level for finding in told.of("docker")} <= {Level.GREEN, Level.AMBER}
    assert [finding.level for finding in told.of("proxies")] == [Level.GREEN, Level.GREEN]
    assert "sees what etcd has of 1 service" in told.of("proxies")[0].says
    assert corner.etcd.etcdctl("get", "--prefix", "--keys-only", f"{corner.prefix}doctor-probe") == ""


def test_a_proxy_without_the_capability(corner: Corner, server: NamedServer) -> None:
    """A container without --cap-add NET_ADMIN: it serves by the relay, which nobody asked for."""
    corner.put("one", server.port)
    with Proxy(corner, prefix=("setpriv", "--bounding-set", "-net_admin")) as proxy:
        proxy.knows("one")
        corner.announced(1)
        told = corner.doctor()
    assert told.code == 1
    assert told.cause.topic.startswith("dynproxy ")
    assert told.cause.says.startswith("relays what the kernel should forward: no CAP_NET_ADMIN")
    assert "--cap-add NET_ADMIN" in told.cause.do


def test_a_proxy_that_has_reached_its_limit_of_files(corner: Corner, server: NamedServer) -> None:
    corner.put("one", server.port)
    with Proxy(corner, prefix=("prlimit", "--nofile=100:100")) as proxy, ExitStack() as clients:
        proxy.knows("one")
        corner.announced(1)
        most = status(proxy.admin)["plane"]["room"]["most"]
        for _ in range(most + 5):
            clients.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 10))
        eventually(lambda: status(proxy.admin)["plane"]["room"]["connections"] == most, 20, "the proxy is full")
        told = corner.doctor()
    assert told.code == 1
    assert f"is full: {most} connections, no more fit, as the limit of open files is 100" in told.cause.says
    assert "LimitNOFILE=" in told.cause.do


async def test_a_proxy_whose_view_is_stale(corner: Corner, server: NamedServer) -> None:
    """Cut off from etcd it goes on with what it knew. Nobody hears of it through etcd for longer than a lease: whoever
    suspects it names it.
    """
    corner.put("one", server.port)
    async with FaultProxy(corner.etcd.endpoints[0]) as gate, AsyncExitStack() as stack:
        proxy = Proxy(corner, "--etcd", gate.url).__enter__()
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        await asyncio.to_thread(proxy.knows, "one")
        gate.cut()
        await asyncio.to_thread(corner.put, "two", server.port)

        def lost() -> bool:
            return bool(status(proxy.admin)["services"][0]["watch"] != "watching")

        await asyncio.to_thread(eventually, lost, 20, "the watch is lost")
        told = await asyncio.to_thread(corner.doctor, "--ask", proxy.admin)
        alone = await asyncio.to_thread(doctor, "--etcd", gate.url, "--ask", proxy.admin, "--only", "proxies")
    assert told.code == 1
    assert told.cause.says.startswith(f"stale view of {SERVICE}")
    assert "it does not know two" in told.cause.says
    assert alone.cause.says.startswith(f"stale view of {SERVICE}")


def test_a_record_without_a_lease_where_nobody_answers(corner: Corner) -> None:
    corner.put("gone", free_port(), "--lease=0")
    told = corner.doctor("--only", "records")
    assert told.code == 1
    assert told.cause.topic == f"record {corner.prefix}{SERVICE}/gone"
    assert "has no lease" in told.cause.says
    assert told.cause.do == f"ambctl rm {SERVICE} gone"


def test_etcd_that_denies(tmp_path: Path) -> None:
    """A user without a right, a wrong password, and nobody at all."""
    password = password_in(tmp_path)
    login = ("--etcd-user", "nobody", "--etcd-password-file", str(password), "--only", "etcd", "--only", "access")
    with EtcdCluster(tmp_path / "etcd", size=1) as cluster:
        let_in(cluster, {"nobody": []})
        where = ("--etcd", cluster.endpoints[0])
        told = doctor(*where, *login, "--only", "records")
        password.write_text("guess")
        guessed = doctor(*where, *login)
        unnamed = doctor(*where, "--only", "access")
    assert (told.code, told.cause.topic) == (1, "etcd access")
    assert told.cause.says.startswith("nobody may not read /services/: ")
    assert "permission denied" in told.cause.says
    assert "grant-permission" in told.cause.do
    assert told.of("access")[-1].says == "authentication is on"
    assert [finding.level for finding in told.of("records")] == [Level.UNKNOWN]
    assert guessed.cause.says.startswith("nobody is not let in: ")
    assert unnamed.cause.says.startswith("etcd lets in nobody unnamed, and no user is given")


def test_etcd_that_is_full(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, size=1, options=["--quota-backend-bytes", "1"]) as cluster:
        with pytest.raises(AssertionError, match="space exceeded"):
            cluster.etcdctl("put", "/a", "1")
        told = doctor("--etcd", cluster.endpoints[0], "--only", "etcd", "--only", "access", "--write-probe")
    assert told.cause.topic == "etcd space"
    assert f"{cluster.endpoints[0]} is full (alarm NOSPACE)" in told.cause.says
    (writing,) = (finding for finding in told.of("access") if finding.topic == "etcd writing")
    assert (writing.level, "space exceeded" in writing.says) == (Level.RED, True)


def test_an_expired_certificate(tmp_path: Path) -> None:
    """It comes before the etcd that cannot be reached because of it; a server that is trusted no more is something
    else than one that is not there.
    """
    authority = Authority(tmp_path / "authority")
    cluster = EtcdCluster(tmp_path / "etcd", size=1, tls=Tls(authority, authority.issue("late", expired=True)))
    cluster.members[0].start()
    url = cluster.endpoints[0]
    try:
        port = int(url.rpartition(":")[2])
        eventually(lambda: _open(port), 30, "etcd listens")
        told = doctor("--etcd", url, "--etcd-ca", str(authority.ca))
    finally:
        cluster.stop()
    assert told.code == 1
    assert told.cause.topic == f"certificate of {url}"
    assert re.match(r"expired 6\d minutes ago", told.cause.says)
    assert "renew it" in told.cause.do
    (reached,) = told.of("etcd")
    assert (reached.level, "certificate" in reached.says) == (Level.RED, True)


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_etcd_that_is_away_is_the_cause_and_what_depends_on_it_unknown() -> None:
    told = doctor("--etcd", f"http://127.0.0.1:{free_port()}", "--timeout", "2")
    assert (told.code, told.cause.says) == (1, "Connection refused")
    assert {finding.level for check in ("programs", "proxies", "records", "drains") for finding in told.of(check)} == {
        Level.UNKNOWN
    }


def test_nothing_that_could_be_looked_at_is_exit_code_3() -> None:
    assert doctor("--etcd", f"http://127.0.0.1:{free_port()}", "--only", "records").code == 3


def test_for_people_it_is_a_line_a_finding_and_the_cause_at_the_end(corner: Corner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "ambctl", "doctor", *corner.where, "--only", "ports", "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, env=_clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    line, blank, total, cause = done.stdout.splitlines()
    assert line.startswith(f"red      port {port}  is taken by ")
    assert blank == ""
    assert total.split() == ["red", "in", "all", "1", "red"]
    assert cause.startswith(f"red      the cause  port {port}: is taken by ")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [(("--only", "everything"), "--only"), (("--port", "0"), "--port"), (("--ask", "169.254.169.254:80"), "--ask")],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        read(["doctor", *arguments], {})


async def test_a_check_that_fails_itself_hides_nothing_and_shows_no_traceback() -> None:
    done = await one("drains", cast("Scene", object()))
    (found,) = done.findings
    assert (found.level, found.says.startswith("the check failed: AttributeError")) == (Level.UNKNOWN, True)
