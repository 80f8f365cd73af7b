"""The client against each release line of etcd that we support and can have: the installed 3.4, and 3.5.

3.5 comes out of the demo's image. Everything that differs by release is touched once: watch, lease, transactions,
users with tokens, TLS.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from ambcore.errors import RegistryDeniedError
from ambcore.model import Address, Instance
from ambcore.states import Watch
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.lease import LeaseKeeper
from ambnet.registry import Registry
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster, Tls
from tests.support.fault_proxy import FaultProxy
from tests.support.following import Following
from tests.support.tls import Authority
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

EXTRACT = Path(__file__).parents[1] / "support" / "etcd35.sh"


@pytest.fixture(scope="module", params=["installed", pytest.param("3.5", marks=pytest.mark.docker)])
def binaries(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    if request.param == "installed":
        return None
    if shutil.which("docker") is None:
        pytest.fail("no docker: etcd 3.5 comes out of the demo's image", pytrace=False)
    folder = tmp_path_factory.mktemp("etcd35")
    done = subprocess.run([EXTRACT, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"etcd 3.5 comes out of the demo's image (scripts/images demo-etcd): {done.stderr}", pytrace=False)
    return folder


async def test_pain_12_records_lease_and_watch_across_a_kill(binaries: Path | None, tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, binaries=binaries) as cluster:
        async with (
            Etcd(EtcdConfig(cluster.endpoints)) as etcd,
            Following(PrefixWatch(etcd, "/s/", relist=0.2, patience=0.2)) as seen,
            LeaseKeeper(etcd, 5) as keeper,
            Registry(etcd, keeper, owner="host-a", epoch="1", prefix="/s/") as registry,
        ):
            await registry.hold(Instance("redis", "a", Address("10.0.0.1", 1)))
            lease = keeper.lease
            cluster.member_of(etcd.endpoint).kill()

            async def moved() -> bool:
                return seen.watch.restarts > 0 and seen.watch.state is Watch.WATCHING and etcd.connected

            await eventually_async(moved)
            await registry.hold(Instance("redis", "a", Address("10.0.0.1", 2)))
            await seen.until({b"/s/redis/a": b'{"host": "10.0.0.1", "port": 2, "owner": "host-a", "epoch": "1"}'})
            assert keeper.lease == lease

            async def audited() -> bool:
                return seen.watch.audits >= 2

            await eventually_async(audited)
            assert seen.watch.drift_total == 0
            await registry.close(deregister=True)
            await seen.until({})


async def test_a_compacted_watch_lists_anew(binaries: Path | None, tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, size=1, binaries=binaries) as cluster:
        async with (
            Etcd(EtcdConfig(cluster.endpoints)) as writer,
            FaultProxy(cluster.endpoints[0]) as gate,
            Etcd(EtcdConfig((gate.url,))) as etcd,
            Following(PrefixWatch(etcd, "/s/")) as seen,
        ):
            await writer.put(b"/s/a", b"1")
            await seen.until({b"/s/a": b"1"})
            gate.cut()
            for number in range(10):
                last = await writer.put(b"/s/b", b"%d" % number)
            await asyncio.to_thread(cluster.etcdctl, "compaction", str(last))
            gate.restore()
            await seen.until({b"/s/a": b"1", b"/s/b": b"9"})
            assert seen.lists == 2


async def test_pain_12_users_and_tls_together(binaries: Path | None, tmp_path: Path) -> None:
    """Mutual TLS without a common name that counts as user, tokens of two seconds, a user with one right."""
    authority = Authority(tmp_path / "authority")
    tls = Tls(authority, authority.issue("server"), mutual=True)
    secret = tmp_path / "password"
    secret.write_text("open sesame")
    options = ["--auth-token-ttl", "2"]
    with EtcdCluster(tmp_path / "etcd", size=1, tls=tls, options=options, binaries=binaries) as cluster:
        for user in ("root", "writer"):
            cluster.etcdctl("user", "add", f"{user}:open sesame")
        cluster.etcdctl("user", "grant-role", "root", "root")
        cluster.etcdctl("role", "add", "services")
        cluster.etcdctl("role", "grant-permission", "services", "--prefix=true", "readwrite", "/s/")
        cluster.etcdctl("user", "grant-role", "writer", "services")
        cluster.etcdctl("auth", "enable")
        pair = authority.issue("client")
        config = EtcdConfig(cluster.endpoints, str(authority.ca), str(pair.cert), str(pair.key), "writer", str(secret))
        async with (
            Etcd(config) as etcd,
            Following(PrefixWatch(etcd, "/s/")) as seen,
            LeaseKeeper(etcd, 5) as keeper,
            Registry(etcd, keeper, owner="host-a", epoch="1", prefix="/s/") as registry,
        ):
            await registry.hold(Instance("redis", "a", Address("10.0.0.1", 1)))
            before = etcd.reauths

            async def renewed_twice_without_a_call() -> bool:
                return keeper._renewed - first > 3

            first = keeper._renewed
            await eventually_async(renewed_twice_without_a_call)
            await registry.hold(Instance("redis", "a", Address("10.0.0.1", 2)))
            assert etcd.reauths == before + 1
            await seen.until({b"/s/redis/a": b'{"host": "10.0.0.1", "port": 2, "owner": "host-a", "epoch": "1"}'})
            with pytest.raises(RegistryDeniedError):
                await etcd.put(b"/elsewhere", b"v")
            denied = PrefixWatch(etcd, "/elsewhere/")
            async with denied:

                async def said() -> bool:
                    return "permission denied" in str(denied.last_error)

                await eventually_async(said)
