"""dynproxy while etcd fails, is secured, or is written by somebody else: what its clients and its operator see."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.load import Target, ask, burst, steady_load
from tests.support.etcd_cluster import EtcdCluster, Tls
from tests.support.etcd_users import PASSWORD, allow, let_in, password_in
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, status
from tests.support.tls import Authority
from tests.support.waiting import eventually, eventually_async
from tests.support.witness import Witness
from tests.system.proxies import LOCAL, Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]


async def test_A1_member_kill_is_not_noticed_by_clients(tmp_path: Path, service: str, figure: Figure) -> None:
    """The member that holds our watch is killed under load: no client error, and a change arrives by another one."""
    with (
        EtcdCluster(tmp_path) as etcd,
        servers("a", "b") as (a, b),
        Proxy(etcd, service) as proxy,
    ):
        records = Records(etcd, service)
        records.put("one", a.port)
        proxy.wait_instances("one")

        def taken() -> bool:
            """The member may have led: etcd refuses writes until another does, and their writer has to ask again."""
            records.put("two", b.port)
            return True

        async with steady_load(proxy.target, 100) as outcome:
            member = etcd.member_of(status(proxy.admin)["etcd"]["endpoint"])
            await asyncio.to_thread(member.kill)
            await asyncio.to_thread(eventually, taken, 30, "a write is taken")
            await asyncio.to_thread(proxy.wait_instances, "one", "two", seconds=5)
        assert outcome.failures == []
        assert outcome.answers["a"] > 0
        figure(f"0 errors in {outcome.total} connections")


async def test_A4_total_outage_leaves_clients_served_and_the_age_shown(tmp_path: Path, service: str) -> None:
    """All of etcd is down, shortened to seconds: what is known stays, the age of the view grows, and five seconds after
    the return a change has arrived.
    """
    with EtcdCluster(tmp_path, size=1) as etcd, servers("a", "b") as (a, b), Proxy(etcd, service) as proxy:
        records = Records(etcd, service)
        records.put("one", a.port)
        proxy.wait_instances("one")
        await asyncio.to_thread(etcd.stop)
        async with steady_load(proxy.target, 50) as outcome:
            await asyncio.to_thread(
                eventually, lambda: status(proxy.admin)["etcd"]["view_age"] > 8, 15, "the age of the view grows"
            )
        assert outcome.failures == []
        assert outcome.answers == {"a": outcome.total}
        assert not status(proxy.admin)["etcd"]["connected"]
        assert fetch(f"http://{proxy.admin}/readyz")[0] == 200
        assert fetch(f"http://{proxy.admin}/healthz")[0] == 200
        await asyncio.to_thread(etcd.start)
        await asyncio.to_thread(records.put, "two", b.port)
        await asyncio.to_thread(proxy.wait_instances, "one", "two", seconds=5)
        said = [line for line in proxy.lines if line.startswith(("WARNING", "ERROR"))]
        assert len(said) == len(set(said)) <= 4, said


async def test_what_another_client_writes_is_followed(shared_etcd: EtcdCluster, service: str) -> None:
    """`etcd3`, which others wrote: puts, changes, a lease that ends."""
    with (
        servers("a", "b") as (a, b),
        Proxy(shared_etcd, service) as proxy,
        Witness(shared_etcd.endpoints[0]) as witness,
    ):
        await asyncio.to_thread(witness.put, f"/services/{service}/one", f"127.0.0.1:{a.port}")
        proxy.wait_instances("one")
        assert await ask(proxy.target) == "a"
        record = json.dumps({"port": b.port, "host": "127.0.0.1", "written_by": "somebody else"})
        await asyncio.to_thread(witness.put, f"/services/{service}/one", record)
        eventually(lambda: proxy.instances()["one"]["address"] == f"127.0.0.1:{b.port}")
        assert await ask(proxy.target) == "b"
        await asyncio.to_thread(witness.delete, f"/services/{service}/one")
        proxy.wait_instances()


async def test_several_services_are_served_by_one_process(shared_etcd: EtcdCluster, service: str) -> None:
    with servers("a", "b") as (a, b):
        for name, server in ((f"{service}-a", a), (f"{service}-b", b)):
            Records(shared_etcd, name).put("one", server.port)
        ports = free_port(), free_port()
        pairs = [f"{service}-{name}:{port}" for name, port in zip("ab", ports, strict=True)]
        with Program("dynproxy", *pairs, *LOCAL, "--etcd", shared_etcd.endpoints[0], "--drain", "1") as proxy:
            proxy.wait_for("listening for")
            assert await ask(Target(ports[0])) == "a"
            assert await ask(Target(ports[1])) == "b"


async def test_there_may_be_more_ports_than_the_soft_limit_of_files(shared_etcd: EtcdCluster, service: str) -> None:
    """A shell's is 1,024, and what may be had is far more."""
    with servers("a") as (a,):
        Records(shared_etcd, service).put("one", a.port)
        ports = [free_port() for _ in range(100)]
        pairs = [f"{service}:{port}" for port in ports]
        etcd, low = ("--etcd", shared_etcd.endpoints[0]), ("prlimit", "--nofile=64:4096")
        with Program("dynproxy", *pairs, *LOCAL, *etcd, "--drain", "1", prefix=low) as proxy:
            proxy.wait_for("listening for")
            assert {await ask(Target(port)) for port in ports} == {"a"}


async def test_mutual_tls_and_a_user_are_all_it_needs(tmp_path: Path, service: str) -> None:
    """Certificates both ways and a user whose role may read the prefix and nothing else."""
    authority = Authority(tmp_path / "tls")
    tls = Tls(authority, authority.issue("server"), mutual=True)
    pair = authority.issue("dynproxy")
    with EtcdCluster(tmp_path / "etcd", size=1, tls=tls) as etcd, servers("a") as (a,):
        Records(etcd, service).put("one", a.port)
        let_in(etcd, {"reader": ["read /services/"]})
        files = ("--etcd-ca", str(authority.ca), "--etcd-cert", str(pair.cert), "--etcd-key", str(pair.key))
        user = ("--etcd-user", "reader", "--etcd-password-file", str(password_in(tmp_path)))
        with Proxy(etcd, service, *files, *user) as proxy:
            proxy.wait_instances("one")
            assert await ask(proxy.target) == "a"
            assert PASSWORD not in proxy.log


async def test_A13_denied_prefix_is_said_once_and_health_is_red(tmp_path: Path, service: str, figure: Figure) -> None:
    """A role without the right to read: never "connected and silent"; given the right, it recovers by itself."""
    with EtcdCluster(tmp_path / "etcd", size=1) as etcd, servers("a") as (a,):
        Records(etcd, service).put("one", a.port)
        let_in(etcd, {"stranger": []})
        user = ("--etcd-user", "stranger", "--etcd-password-file", str(password_in(tmp_path)))
        with Proxy(etcd, service, *user) as proxy:
            await asyncio.to_thread(proxy.wait_for, "listening for")
            listening = time.monotonic()
            await asyncio.to_thread(proxy.wait_for, "(?i)permission denied")
            took = time.monotonic() - listening
            assert fetch(f"http://{proxy.admin}/healthz")[0] == 503
            assert fetch(f"http://{proxy.admin}/readyz")[0] == 503
            allow(etcd, "stranger", "read /services/")
            proxy.wait_instances("one", seconds=10)
            assert (await burst(proxy.target, 10)).failures == []

            async def healthy() -> bool:
                return fetch(f"http://{proxy.admin}/healthz")[0] == 200

            await eventually_async(healthy)
            complaints = [line for line in proxy.lines if line.startswith(("WARNING", "ERROR")) and "denied" in line]
            assert len(complaints) == 1, proxy.log
            figure(f"said {took:.1f} s after the start, in one line; /healthz and /readyz 503")
