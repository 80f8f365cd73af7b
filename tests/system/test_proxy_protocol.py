"""The PROXY protocol with those who wrote it and those who use it: HAProxy and nginx, as receivers and as senders.

Each receiver answers an HTTP request with whom it takes for the client, as `address port asked-address asked-port`.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.support.other_proxies import OtherProxy, haproxy, nginx
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, status
from tests.support.waiting import eventually
from tests.system.proxies import Records

pytestmark = [pytest.mark.etcd, pytest.mark.system]

HOSTS = ("127.0.0.1", "::1")
REQUEST = b"GET / HTTP/1.0\r\nHost: test\r\n\r\n"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def haproxy_receiver(folder: Path, port: int) -> OtherProxy:
    binds = "".join(f"    bind {host}:{port} accept-proxy\n" for host in ("127.0.0.1", "[::1]"))
    answer = 'lf-string "%[src] %[src_port] %[dst] %[dst_port]"'
    text = f"frontend told\n    mode http\n{binds}    http-request return status 200 content-type text/plain {answer}\n"
    return haproxy(folder, text)


def nginx_receiver(folder: Path, port: int) -> OtherProxy:
    listens = "".join(f"listen {host}:{port} proxy_protocol; " for host in ("127.0.0.1", "[::1]"))
    answer = " ".join(f"$proxy_protocol_{what}" for what in ("addr", "port", "server_addr", "server_port"))
    return nginx(folder, http=f'server {{ {listens} location / {{ return 200 "{answer}"; }} }}')


RECEIVERS: dict[str, Callable[[Path, int], OtherProxy]] = {"haproxy": haproxy_receiver, "nginx": nginx_receiver}


def listens(port: int, hosts: Sequence[str] = HOSTS) -> None:
    """Wait until somebody listens on these addresses."""

    def look() -> bool:
        with contextlib.ExitStack() as stack:
            try:
                for host in hosts:
                    stack.enter_context(socket.create_connection((host, port), 5))
            except OSError:
                return False
            return True

    eventually(look, 20, f"port {port} is listened on")


@pytest.fixture(scope="module", params=RECEIVERS)
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real one on both loopback addresses."""
    port = free_port("::")
    with RECEIVERS[request.param](tmp_path_factory.mktemp(request.param), port):
        listens(port)
        yield port


def ask(host: str, port: int) -> tuple[str, str]:
    """(what the answer says, what it ought to say)."""
    with socket.create_connection((host, port), 10) as client:
        client.settimeout(10)
        mine, asked = client.getsockname(), client.getpeername()
        client.sendall(REQUEST)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer.decode().partition("\r\n\r\n")[2], f"{mine[0]} {mine[1]} {asked[0]} {asked[1]}"


@contextlib.contextmanager
def simple_amb(*arguments: str) -> Iterator[int]:
    """The port of a running simple-amb, on all addresses."""
    port = free_port("::")
    with Program("simple_amb", "--listen", str(port), *arguments):
        listens(port)
        yield port


@contextlib.contextmanager
def dynproxy(etcd: EtcdCluster, service: str, *options: str) -> Iterator[tuple[int, str]]:
    """The port of a running dynproxy, on all addresses, and that of its admin server."""
    port, admin = free_port("::"), f"127.0.0.1:{free_port('::')}"
    options = ("--instances-in", "127.0.0.0/8,::1/128", "--admin", admin, "--drain", "1", *options)
    with Program("dynproxy", service, str(port), "--etcd", ",".join(etcd.endpoints), *options):
        listens(port)
        eventually(lambda: fetch(f"http://{admin}/readyz")[0] == 200, 20)
        yield port, admin


# --- they receive -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("to", HOSTS)
def test_pain_26_haproxy_and_nginx_behind_simple_amb_learn_who_the_client_is(
    receiver: int, version: str, to: str
) -> None:
    """Whichever family the client has, and whichever the way to the instance."""
    with simple_amb("--send-proxy", version, f"{bracketed(to)}:{receiver}") as port:
        for host in HOSTS:
            said, expected = ask(host, port)
            assert said == expected


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_pain_26_haproxy_and_nginx_behind_dynproxy_learn_who_the_client_is(
    shared_etcd: EtcdCluster, service: str, records: Records, receiver: int, version: str
) -> None:
    """The relay serves, whatever the kernel could, and says why."""
    records.put("one", receiver)
    with dynproxy(shared_etcd, service, "--send-proxy", version) as (port, admin):
        for host in HOSTS:
            said, expected = ask(host, port)
            assert said == expected
        plane = status(admin)["plane"]
        assert plane["name"] == "relay"
        assert "PROXY protocol" in plane["why"]


@pytest.mark.parametrize("case", [("haproxy", "v2"), ("nginx", "v1")], ids=" ".join)
def test_checks_bring_no_complaint_of_a_receiver(
    shared_etcd: EtcdCluster, service: str, records: Records, tmp_path: Path, case: tuple[str, str]
) -> None:
    """Either complains of a client that connects and leaves; not of our checks, which say what they are."""
    which, version = case
    port = free_port("::")
    with RECEIVERS[which](tmp_path, port) as theirs:
        listens(port)
        options = ("--send-proxy", version, "--check-interval", "0.2")
        with dynproxy(shared_etcd, service, *options) as (_, admin):
            eventually(lambda: theirs.log.count("PROXY") >= len(HOSTS), 10, "it complains of who says nothing")
            complaints = theirs.log.count("PROXY")
            records.put("one", port)
            eventually(lambda: checks_passed(admin) >= 10, 20, "ten checks")
        assert theirs.log.count("PROXY") == complaints, theirs.log
        socket.create_connection(("127.0.0.1", port), 10).close()
        eventually(lambda: theirs.log.count("PROXY") == complaints + 1)  # where it has a reason it still does


def checks_passed(admin: str) -> int:
    found = re.search(r'amb_health_checks_total\{result="passed"\} (\d+)', fetch(f"http://{admin}/metrics")[1])
    return int(found[1]) if found else 0


def test_the_kernel_cannot_be_insisted_on(shared_etcd: EtcdCluster, service: str) -> None:
    for option in (("--send-proxy", "v2"), ("--accept-proxy", "10.0.0.0/8")):
        where = ("--etcd", ",".join(shared_etcd.endpoints), "--listen", "127.0.0.1")
        with Program("dynproxy", service, str(free_port("::")), *where, "--plane", "kernel", *option) as ours:
            assert ours.process.wait(20) == 2
            ours.wait_for(rf"--plane: the kernel cannot: {option[0]}: headers of the PROXY protocol")


# --- they send --------------------------------------------------------------------------------------------------------


def haproxy_sender(folder: Path, port: int, to: int, version: str) -> OtherProxy:
    binds = "".join(f"    bind {host}:{port}\n" for host in ("127.0.0.1", "[::1]"))
    option = {"v1": "send-proxy", "v2": "send-proxy-v2"}[version]
    server = f"    server ours 127.0.0.1:{to} {option}\n"
    return haproxy(folder, f"listen telling\n    mode tcp\n{binds}{server}")


def nginx_sender(folder: Path, port: int, to: int, _version: str) -> OtherProxy:
    listens = "".join(f"listen {host}:{port}; " for host in ("127.0.0.1", "[::1]"))
    return nginx(folder, stream=f"server {{ {listens} proxy_pass 127.0.0.1:{to}; proxy_protocol on; }}")


SENDERS = {
    "haproxy v1": (haproxy_sender, "v1"),
    "haproxy v2": (haproxy_sender, "v2"),
    "nginx v1": (nginx_sender, "v1"),
}


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], contextlib.AbstractContextManager[int]]:
    """Makes a real one that sends to a port of ours, and gives its own port."""
    make, version = SENDERS[request.param]

    @contextlib.contextmanager
    def run(to: int) -> Iterator[int]:
        port = free_port("::")
        with make(tmp_path, port, to, version):
            listens(port)
            yield port

    return run


def test_simple_amb_takes_the_word_of_haproxy_and_nginx_and_passes_it_on(
    sender: Callable[[int], contextlib.AbstractContextManager[int]], receiver: int
) -> None:
    """Theirs in front, ours, theirs behind: the last one learns who asked the first."""
    trust = ("--accept-proxy", "127.0.0.0/8,::1/128", "--send-proxy", "v2")
    with simple_amb(*trust, f"127.0.0.1:{receiver}") as ours, sender(ours) as port:
        for host in HOSTS:
            said, expected = ask(host, port)
            assert said == expected


def test_dynproxy_takes_the_word_of_haproxy_and_nginx_and_passes_it_on(
    shared_etcd: EtcdCluster,
    service: str,
    records: Records,
    sender: Callable[[int], contextlib.AbstractContextManager[int]],
    receiver: int,
) -> None:
    records.put("one", receiver)
    trust = ("--accept-proxy", "127.0.0.0/8,::1/128", "--send-proxy", "v1")
    with dynproxy(shared_etcd, service, *trust) as (ours, admin), sender(ours) as port:
        for host in HOSTS:
            said, expected = ask(host, port)
            assert said == expected
        eventually(lambda: status(admin)["services"][0]["counters"]["proxy_header_refused"] == 0)


def test_haproxys_checks_of_us_pass_with_and_without_a_header(tmp_path: Path, receiver: int) -> None:
    """With one they say LOCAL, and the check is the proxy's own; without one they leave before they say anything."""
    port, asked = free_port("::"), free_port("::")
    with simple_amb("--accept-proxy", "127.0.0.0/8", "--send-proxy", "v2", f"127.0.0.1:{receiver}") as ours:
        text = (
            f"listen telling\n    mode tcp\n    bind 127.0.0.1:{port}\n    default-server inter 100ms\n"
            f"    server plain 127.0.0.1:{ours} send-proxy-v2 check\n"
            f"    server said 127.0.0.1:{ours} send-proxy-v2 check check-send-proxy\n"
            f"listen asked\n    mode http\n    bind 127.0.0.1:{asked}\n    stats enable\n    stats uri /\n"
        )
        with haproxy(tmp_path, text) as theirs:
            listens(port, ["127.0.0.1"])

            def states() -> dict[str, tuple[str, str]]:
                rows = [line.split(",") for line in fetch(f"http://127.0.0.1:{asked}/;csv")[1].splitlines()]
                return {row[1]: (row[17], row[36]) for row in rows if row[0] == "telling"}

            good = ("UP", "L4OK")
            eventually(lambda: (found := states())["plain"] == good and found["said"] == good, 20)
            for host in ("127.0.0.1",) * 4:
                said, expected = ask(host, port)
                assert said == expected
            assert "DOWN" not in theirs.log


def test_a_client_beside_them_that_spoofs_is_not_believed(receiver: int) -> None:
    """Only 127.0.0.2 is trusted; the spoof from 127.0.0.1 becomes a request that no server understands."""
    with simple_amb("--accept-proxy", "127.0.0.2/32", "--send-proxy", "v1", f"127.0.0.1:{receiver}") as port:
        for source, answered in (("127.0.0.2", True), ("127.0.0.1", False)):
            with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as client:
                client.settimeout(10)
                client.sendall(b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n" + REQUEST)
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
            assert (b"203.0.113.7 1 198.51.100.1 2" in answer) is answered
