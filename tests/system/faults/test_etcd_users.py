"""Users, tokens and certificates that fail under whole programs: what they do meanwhile, and what they never say."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.etcd_cluster import EtcdCluster, Tls
from tests.support.etcd_fixtures import need_etcd
from tests.support.etcd_users import PASSWORD, let_in, password_in
from tests.support.fault_proxy import FaultProxy
from tests.support.programs import Program, status
from tests.support.tls import Authority
from tests.support.waiting import eventually
from tests.system.faults.fleet import fleet, own_address
from tests.system.faults.load import Load
from tests.system.proxies import Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]
AGENT = {"agent": ["readwrite /services/", "readwrite /ambassadors/"]}  # what our programs use
TOKEN = re.compile(r"[A-Za-z]{16}\.\d+")  # as etcd makes its simple tokens


def authentications(etcd: EtcdCluster) -> int:
    """How often members were asked for a token, as they count it themselves."""
    total = 0.0
    for member in etcd.members:
        with urllib.request.urlopen(f"{member.url}/metrics", timeout=5) as answer:  # noqa: S310 - loopback only
            metrics = answer.read().decode()
        found = re.search(r'^grpc_server_started_total\{grpc_method="Authenticate".*\} (\S+)$', metrics, re.MULTILINE)
        total += float(found[1]) if found else 0.0
    return int(total)


def keeps_secrets(*programs: Program) -> None:
    """No program's log has the password or anything like a token."""
    for program in programs:
        assert PASSWORD not in program.log
        assert not TOKEN.search(program.log), program.log


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return password_in(tmp_path)


@pytest.mark.long
def test_A12_tokens_of_two_seconds_and_members_that_forget(tmp_path: Path, password: Path, figure: Figure) -> None:
    """Idle for ten seconds, then at work; then each member restarts. No client error, no record lost, no secret."""
    need_etcd()
    with EtcdCluster(tmp_path / "etcd", options=["--auth-token-ttl", "2"]) as etcd, own_address() as address:
        let_in(etcd, AGENT)
        user = ("--etcd-user", "agent", "--etcd-password-file", str(password), "--log-level", "debug")
        with fleet(etcd, address, tmp_path, options=user) as made, made.load() as load:
            before, asked = made.held(), authentications(etcd)
            time.sleep(10)
            spare = made.wait_spare(seconds=5)
            idle = authentications(etcd) - asked
            made.without_spare()
            for member in etcd.members:
                member.kill()
                member.start()
                etcd.wait_healthy()
            again = made.wait_spare(seconds=10)
            load.stop()
            assert load.failures == []
            assert made.removals == []
            assert before.items() <= made.held().items()
            assert not [line for line in made.proxy.lines + made.registrar.lines if "denied" in line]
            keeps_secrets(made.proxy, made.registrar)
    figure(
        f"a new instance known after {spare:.1f} s, with {idle} authentications of two programs, after {again:.1f} s "
        f"when all members had restarted; {load.figure}"
    )


@pytest.mark.long
def test_A14_a_wrong_password_for_a_minute(tmp_path: Path, service: str, figure: Figure) -> None:
    """Tried with growing pauses, by the members' own count; the process lives, and recovers by a new file."""
    need_etcd()
    wrong = tmp_path / "password"
    wrong.write_text("guess-of-mine")
    with EtcdCluster(tmp_path / "etcd") as etcd, servers("a") as (a,):
        Records(etcd, service).put("one", a.port)
        let_in(etcd, AGENT)
        before = authentications(etcd)
        with Proxy(etcd, service, "--etcd-user", "agent", "--etcd-password-file", str(wrong)) as proxy:
            proxy.wait_for("authentication failed")
            time.sleep(60)
            tries = authentications(etcd) - before
            assert proxy.process.poll() is None
            wrong.write_text(PASSWORD)
            started = time.monotonic()
            proxy.wait_instances("one", seconds=35)
            took = time.monotonic() - started
            keeps_secrets(proxy)
            assert "guess-of-mine" not in proxy.log
    # Pauses of 1, 2, 4, 8, 16 and 30 s, each half of that at the least.
    assert 2 <= tries <= 8
    figure(f"{tries} attempts in 60 s; after the file had the right one, all known in {took:.1f} s")


@pytest.mark.long
def test_A20_all_certificates_are_replaced(tmp_path: Path, service: str, figure: Figure) -> None:
    """By those of another authority, for both sides: the files change, the member restarts with its own, we do not."""
    need_etcd()
    old, new = (Authority(tmp_path / name, name) for name in ("old", "new"))
    server, client = old.issue("server"), old.issue("client")
    options = ("--etcd-ca", str(old.ca), "--etcd-cert", str(client.cert), "--etcd-key", str(client.key))
    tls = Tls(old, server, mutual=True)
    with (
        EtcdCluster(tmp_path / "etcd", size=1, tls=tls) as etcd,
        servers("a", "b") as (a, b),
        Proxy(etcd, service, *options) as proxy,
    ):
        records = Records(etcd, service)
        records.put("one", a.port)
        proxy.wait_instances("one")
        with Load(proxy.target, ("a", "b")) as load:
            before = ssl.create_default_context(cafile=old.ca)
            replace(new.ca, old.ca)
            for pair in (server, client):
                issued = new.issue(pair.cert.stem)
                replace(issued.cert, pair.cert)
                replace(issued.key, pair.key)
            replaced = time.monotonic()
            etcd.members[0].kill()
            etcd.start()
            records.put("two", b.port)
            proxy.wait_instances("one", "two", seconds=60)
            took = time.monotonic() - replaced
            load.stop()
        assert "TLS files have changed" in proxy.log
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(etcd.endpoints[0], before)
    assert load.failures == []
    figure(f"certificates of another authority in use {took:.1f} s after they were replaced; {load.figure}")


def replace(source: Path, target: Path) -> None:
    """As tools do that renew certificates: write beside, then rename."""
    copy = target.with_suffix(".new")
    shutil.copy(source, copy)
    copy.replace(target)


def shake_hands(url: str, trust: ssl.SSLContext) -> None:
    """Begin TLS with a server; raises ssl.SSLError."""
    host, _, port = url.rpartition("/")[2].rpartition(":")
    with socket.create_connection((host, int(port)), 5) as plain, trust.wrap_socket(plain, server_hostname=host):
        pass


@pytest.mark.parametrize("server", ["expired", "plain"])
def test_A20_no_way_to_plain_text(tmp_path: Path, service: str, password: Path, server: str, figure: Figure) -> None:
    """An expired certificate, or no TLS at all: said, nothing is known, and every connection begins with TLS."""
    need_etcd()
    authority = Authority(tmp_path / "authority")
    tls = Tls(authority, authority.issue("late", expired=True)) if server == "expired" else None
    etcd = EtcdCluster(tmp_path / "etcd", size=1, tls=tls)
    etcd.members[0].start()  # no client can tell when it serves: etcdctl does not trust it either
    try:
        where = etcd.endpoints[0].replace("http://", "https://")
        options = ("--etcd-ca", str(authority.ca), "--etcd-user", "agent", "--etcd-password-file", str(password))
        with FaultProxy(where) as between, Proxy(etcd, service, *options, "--etcd", between.url) as proxy:
            said = "certificate has expired" if server == "expired" else "etcd at https"
            line = proxy.wait_for(rf"WARNING etcd: (.*{said}.*)", seconds=40)[1]
            eventually(lambda: len(between.beginnings) >= 5, 40, "five attempts")
            assert proxy.process.poll() is None
            beginnings = list(between.beginnings)
            keeps_secrets(proxy)
            assert status(proxy.admin)["services"][0]["instances"] is None
    finally:
        etcd.stop()
    # RFC 8446, 5.1: a record of a handshake, of TLS 1.0 to 1.3.
    assert {beginning[:2] for beginning in beginnings} == {b"\x16\x03"}
    assert not [beginning for beginning in beginnings if PASSWORD.encode() in beginning]
    figure(f"{server}: {len(beginnings)} connections, each began with TLS; said: {line}")
