"""What etcd's history does to a dynproxy: compaction, a past that is lost, very large changes, very many records."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ambnet.etcd import Etcd, EtcdConfig
from ambnet.etcd.protocol import rpc
from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_fixtures import need_etcd
from tests.support.fault_proxy import FaultProxy
from tests.support.named_server import NamedServer
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, rss_mib
from tests.support.waiting import eventually
from tests.system.faults.fleet import held
from tests.system.faults.load import Load
from tests.system.proxies import LOCAL, Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members whose history a test may compact."""
    need_etcd()
    with EtcdCluster(tmp_path_factory.mktemp("history")) as made:
        yield made


@pytest.fixture(scope="module")
def pair() -> Iterator[list[NamedServer]]:
    with servers("a", "b") as made:
        yield made


class Behind(Proxy):
    """A dynproxy that reaches one member of a cluster, through `between`."""

    def __init__(self, etcd: EtcdCluster, service: str, between: FaultProxy, *options: str) -> None:
        super().__init__(etcd, service, *options)
        at = self.arguments.index("--etcd") + 1
        self.arguments = (*self.arguments[:at], between.url, *self.arguments[at + 1 :])


def shown(proxy: Proxy) -> dict[str, str]:
    return {name: item["address"] for name, item in proxy.instances().items()}


def agrees(proxy: Proxy, etcd: EtcdCluster) -> bool:
    """Whether the proxy shows just what etcd holds."""
    there = held(etcd, f"/services/{proxy.service}/")
    return shown(proxy) == {name: record.address for name, record in there.items()}


def comings_and_goings(proxy: Proxy) -> list[str]:
    """The lines about instances that came, went or changed."""
    return [line for line in proxy.lines if any(f"{proxy.service}: {sign} " in line for sign in "+-~")]


def test_A8_compaction_while_a_proxy_is_away(
    cluster: EtcdCluster, pair: list[NamedServer], service: str, figure: Figure
) -> None:
    """A thousand writes later: what stayed has not even blinked, one new instance is all that its log tells."""
    a, b = pair
    records = Records(cluster, service)
    records.put("stays", a.port)
    with FaultProxy(cluster.endpoints[0]) as between, Behind(cluster, service, between) as proxy:
        proxy.wait_instances("stays")
        before = len(comings_and_goings(proxy))
        with Load(proxy.target, ("a", "b")) as load:
            between.cut()
            revision = asyncio.run(write_often(cluster, service, b.port))
            cluster.etcdctl("compaction", str(revision))
            between.restore()
            eventually(lambda: agrees(proxy, cluster) and len(shown(proxy)) == 2, 20, "it agrees with etcd")
            load.stop()
        told = comings_and_goings(proxy)[before:]
    assert load.failures == []
    assert "compacted" in proxy.log
    assert len(told) == 1, told
    assert "+ changes" in told[0]
    figure(f"after 1,000 writes and a compaction: {len(told)} change for one new instance; {load.figure}")


async def write_often(cluster: EtcdCluster, service: str, port: int) -> int:
    """A thousand changes of one record; the revision of the last."""
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd:
        for number in range(1000):
            record = {"host": "127.0.0.1", "port": port, "weight": number % 9 + 1}
            revision = await etcd.put(f"/services/{service}/changes".encode(), json.dumps(record).encode())
    return revision


def test_A9_deletion_at_the_compacted_revision(
    cluster: EtcdCluster, pair: list[NamedServer], service: str, figure: Figure
) -> None:
    """Deleted while the proxy was away, and compacted exactly there: gone all the same, and at once."""
    a, b = pair
    records = Records(cluster, service)
    records.put("stays", a.port)
    records.put("goes", b.port)
    with FaultProxy(cluster.endpoints[0]) as between, Behind(cluster, service, between) as proxy:
        proxy.wait_instances("stays", "goes")
        between.cut()
        answer = cluster.etcdctl_json("del", f"/services/{service}/goes")
        cluster.etcdctl("compaction", str(answer["header"]["revision"]), "--physical")
        between.restore()
        proxy.wait_instances("stays", seconds=20)
    version = cluster.etcdctl("version").split()[2]
    figure(f"etcd {version}: gone with the first comparison after the return")


def test_A10_an_older_snapshot_is_restored(
    tmp_path: Path, pair: list[NamedServer], service: str, figure: Figure
) -> None:
    """Lower revisions and another cluster id: what is shown is what etcd holds, two seconds after it serves."""
    a, b = pair
    with EtcdCluster(tmp_path / "etcd", size=1) as etcd, Proxy(etcd, service) as proxy:
        member = etcd.members[0]
        records = Records(etcd, service)
        records.put("old", a.port)
        etcd.etcdctl("snapshot", "save", str(tmp_path / "saved"))
        records.put("new", b.port)
        for number in range(20):
            records.put("old", a.port, weight=number + 1)
        proxy.wait_instances("new", "old")
        with Load(proxy.target, ("a", "b")) as load:
            member.kill()
            restore(etcd, tmp_path / "saved")
            etcd.start()
            served = time.monotonic()
            eventually(lambda: sorted(shown(proxy)) == ["old"] and agrees(proxy, etcd), 15, "the restored state")
            took = time.monotonic() - served
            records.put("newer", b.port)
            proxy.wait_instances("newer", "old", seconds=15)
            load.stop()
    assert load.failures == []
    figure(f"a restored snapshot was followed {took:.1f} s after it was served, and what came later; {load.figure}")


def restore(etcd: EtcdCluster, saved: Path) -> None:
    """Put a snapshot in the place of the only member's data, as an operator would."""
    member = etcd.members[0]
    shutil.rmtree(member.folder / "data")
    given = dict(itertools.pairwise(member.command))
    etcd.etcdctl(
        *("snapshot", "restore", str(saved), "--data-dir", given["--data-dir"], "--name", given["--name"]),
        *("--initial-cluster", given["--initial-cluster"]),
        *("--initial-advertise-peer-urls", given["--initial-advertise-peer-urls"]),
        *("--initial-cluster-token", "restored"),
    )


def test_A16_a_transaction_of_128_changes_is_one_for_the_balancer(
    cluster: EtcdCluster, pair: list[NamedServer], service: str, figure: Figure
) -> None:
    """64 instances replace 64 others, to and fro: whoever looks sees the ones or the others."""
    a, b = pair
    sides = {name: [f"{name}{number:02}" for number in range(64)] for name in ("left", "right")}
    asyncio.run(replace_all(cluster, service, sides["left"], sides["right"], a.port))
    seen: list[tuple[str, ...]] = []
    done = threading.Event()
    with Proxy(cluster, service) as proxy:
        proxy.wait_instances(*sides["left"])

        def look() -> None:
            while not done.is_set():
                seen.append(tuple(sorted({name[:-2] for name in proxy.instances()})) * (len(proxy.instances()) == 64))

        looking = threading.Thread(target=look)
        looking.start()
        with Load(proxy.target, ("a", "b")) as load:
            for come, go, port in (("right", "left", b.port), ("left", "right", a.port)) * 4:
                asyncio.run(replace_all(cluster, service, sides[come], sides[go], port))
                proxy.wait_instances(*sides[come])
            load.stop()
        done.set()
        looking.join()
    assert load.failures == []
    assert set(seen) <= {("left",), ("right",)}, set(seen)
    figure(f"{len(seen)} looks during 8 replacements, none saw a half; {load.figure}")


async def replace_all(cluster: EtcdCluster, service: str, come: list[str], go: list[str], port: int) -> None:
    """One transaction: these records stand, those do not."""

    def key(name: str) -> bytes:
        return f"/services/{service}/{name}".encode()

    value = json.dumps({"host": "127.0.0.1", "port": port}).encode()
    puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=key(name), value=value)) for name in come]
    dels = [rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key(name))) for name in go]
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd:
        await etcd._call("kv", "Txn", rpc.TxnRequest(success=puts + dels))


@pytest.mark.long
def test_A15_20_000_records_of_1_kib_in_a_proxy(
    tmp_path: Path, pair: list[NamedServer], service: str, figure: Figure
) -> None:
    """Two services of 10,000 instances, the most that one may have: known, and less than 100 MB more of memory."""
    names = [f"{service}-{number}" for number in range(2)]
    admin = f"127.0.0.1:{free_port()}"
    fronts = [f"{name}:{free_port()}" for name in names]

    def count() -> int:
        """Asked of the metrics: a status document of 20,000 instances would be what takes the memory."""
        told = re.findall(r"^amb_instances\{.*\} (\S+)$", fetch(f"http://{admin}/metrics")[1], re.MULTILINE)
        return int(sum(map(float, told)))

    with EtcdCluster(tmp_path / "etcd") as etcd:
        for name in names:
            Records(etcd, name).put("one", pair[0].port)
        where = ("--etcd", ",".join(etcd.endpoints), "--admin", admin)
        with Program("dynproxy", *fronts, *LOCAL, *where, "--drain", "1") as proxy:
            eventually(lambda: count() == 2, 20)
            few = rss_mib(proxy.pid)
            asyncio.run(write_many(etcd, names, pair[0].port))
            eventually(lambda: count() == 20_000, 120, "20,000 instances")
            many = peak_mib(proxy.pid)
            assert "EXHAUSTED" not in proxy.log
            proxy.kill()
        with Program("dynproxy", *fronts, *LOCAL, *where, "--drain", "1") as proxy:
            eventually(lambda: count() == 20_000, 120, "20,000 instances from their list")
            listed, after = peak_mib(proxy.pid), rss_mib(proxy.pid)
            assert "EXHAUSTED" not in proxy.log
    grown = f"at most {many:.0f} MiB by events, {listed:.0f} MiB by a list, {after:.0f} MiB at rest"
    figure(f"20,000 x 1 KiB: {few:.0f} MiB before, {grown}")
    assert max(many, listed) - few < 100


def peak_mib(pid: int) -> float:
    """The largest resident set that a process has had, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def write_many(cluster: EtcdCluster, services: list[str], port: int) -> None:
    """9,999 records of a kibibyte for each service, 99 at a time."""
    async with Etcd(EtcdConfig(cluster.endpoints)) as etcd:
        for service, first in itertools.product(services, range(0, 9_999, 99)):
            puts = []
            for number in range(first, first + 99):
                record = {"host": "127.0.0.1", "port": port, "filler": ""}
                record["filler"] = "x" * (1024 - len(json.dumps(record)))
                key = f"/services/{service}/{number:05}".encode()
                puts.append(rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=json.dumps(record).encode())))
            await etcd._call("kv", "Txn", rpc.TxnRequest(success=puts))
