"""What other clients write we follow, what we write they read: `etcd3` and `etcdctl`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from ambcore.model import Address, Instance
from ambcore.table import Reader, Table, fold
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.lease import LeaseKeeper
from ambnet.registry import Registry
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.following import Following
from tests.support.witness import Witness

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def witness(shared_etcd: EtcdCluster) -> Iterator[Witness]:
    with Witness(shared_etcd.members[1].url) as client:
        yield client


async def test_the_watch_follows_what_another_client_writes(
    shared_etcd: EtcdCluster, witness: Witness, prefix: str
) -> None:
    first, second = f"{prefix}redis/a", f"{prefix}redis/b"
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        await asyncio.to_thread(witness.put, first, '{"host": "10.0.0.1", "port": 1}')
        await asyncio.to_thread(witness.put, second, "10.0.0.2:2")
        await asyncio.to_thread(witness.put, first, '{"host": "10.0.0.1", "port": 3}')
        await seen.until({first.encode(): b'{"host": "10.0.0.1", "port": 3}', second.encode(): b"10.0.0.2:2"})
        table = Table()
        for message in seen.messages:
            table, refused = fold(table, message, Reader(prefix))
            assert not refused
        assert str(table) == "redis/a 10.0.0.1:3 up\nredis/b 10.0.0.2:2 up\n"
        assert await asyncio.to_thread(witness.delete, first)
        await seen.until({second.encode(): b"10.0.0.2:2"})


async def test_the_watch_follows_another_clients_lease_to_its_end(
    shared_etcd: EtcdCluster, witness: Witness, prefix: str
) -> None:
    key = f"{prefix}redis/a"
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        await asyncio.to_thread(witness.put, key, "10.0.0.1:1", 1)
        await seen.until({key.encode(): b"10.0.0.1:1"})
        await seen.until({})


async def test_other_clients_read_what_the_registry_writes(
    shared_etcd: EtcdCluster, witness: Witness, prefix: str
) -> None:
    instance = Instance("redis-A", "redis-demo.service", Address("10.132.181.182", 49155))
    async with (
        Etcd(EtcdConfig(shared_etcd.endpoints)) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Registry(etcd, keeper, owner="host-a", epoch="1", prefix=prefix) as registry,
    ):
        await registry.hold(instance)
        key = f"{prefix}redis-A/redis-demo.service"
        record = (await asyncio.to_thread(witness.get, prefix))[key]
        assert list(json.loads(record))[:2] == ["host", "port"]
        printed = await asyncio.to_thread(shared_etcd.etcdctl, "get", key, "--print-value-only")
        assert printed.strip() == record
        assert json.loads(record)["port"] == 49155
        await registry.close(deregister=True)
        assert await asyncio.to_thread(witness.get, prefix) == {}
