"""A registry kept by registrator's conventions, written by somebody else's client: dynproxy follows it as it is.

<prefix>/<name>/<host>:<container>:<port>[:udp]   10.132.181.182:49153
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import urllib.request

import pytest

from bench.load import ask
from tests.support.etcd_cluster import EtcdCluster
from tests.support.waiting import eventually
from tests.system.proxies import Proxy, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]


class Gateway:
    """etcd's JSON gateway, which needs no client but HTTP."""

    def __init__(self, etcd: EtcdCluster) -> None:
        self._url = etcd.endpoints[0]

    def put(self, key: str, value: str) -> None:
        self._post("put", key=key, value=value)

    def delete(self, key: str) -> None:
        self._post("deleterange", key=key)

    def _post(self, call: str, **texts: str) -> None:
        body = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        request = urllib.request.Request(f"{self._url}/v3/kv/{call}", json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback only
            assert answer.status == 200


class Etcdctl:
    """etcd's own command line."""

    def __init__(self, etcd: EtcdCluster) -> None:
        self._etcd = etcd

    def put(self, key: str, value: str) -> None:
        self._etcd.etcdctl("put", key, value)

    def delete(self, key: str) -> None:
        self._etcd.etcdctl("del", key)


@pytest.fixture(params=[Etcdctl, Gateway])
def writer(request: pytest.FixtureRequest, shared_etcd: EtcdCluster) -> Etcdctl | Gateway:
    """Two clients that share no code with us."""
    made: Etcdctl | Gateway = request.param(shared_etcd)
    return made


async def test_instances_come_move_and_go_as_registrator_writes_them(
    shared_etcd: EtcdCluster, service: str, writer: Etcdctl | Gateway
) -> None:
    prefix = f"/registrator/{service}"
    one, two = "core-01:redis.1:6379", "core-02:redis.2:6379"
    with servers("a", "b", "c") as (a, b, c), Proxy(shared_etcd, service, "--prefix", "/registrator") as proxy:
        writer.put(f"{prefix}/{one}", f"127.0.0.1:{a.port}")
        proxy.wait_instances(one)
        assert await ask(proxy.target) == "a"
        writer.put(f"{prefix}/{two}", f"127.0.0.1:{b.port}")
        proxy.wait_instances(one, two)
        assert {await ask(proxy.target) for _ in range(4)} == {"a", "b"}
        writer.put(f"{prefix}/{one}", f"127.0.0.1:{c.port}")
        eventually(lambda: proxy.instances()[one]["address"] == f"127.0.0.1:{c.port}")
        assert {await ask(proxy.target) for _ in range(4)} == {"c", "b"}
        writer.delete(f"{prefix}/{two}")
        proxy.wait_instances(one)
        assert {await ask(proxy.target) for _ in range(4)} == {"c"}


async def test_udp_is_told_by_the_instance_s_name(
    shared_etcd: EtcdCluster, service: str, writer: Etcdctl | Gateway
) -> None:
    """A container that serves one port by both transports has two keys, and clients of each come to theirs."""
    by_tcp, by_udp = "core-01:dns:53", "core-01:dns:53:udp"
    with (
        servers("tcp") as (stream,),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        Proxy(shared_etcd, service, "--prefix", "/registrator") as proxy,
    ):
        target.bind(("127.0.0.1", 0))
        target.settimeout(1)
        client.settimeout(10)
        client.connect(("127.0.0.1", proxy.port))
        writer.put(f"/registrator/{service}/{by_udp}", f"127.0.0.1:{target.getsockname()[1]}")
        writer.put(f"/registrator/{service}/{by_tcp}", f"127.0.0.1:{stream.port}")
        proxy.wait_instances(by_tcp, by_udp)
        assert {name: item["protocol"] for name, item in proxy.instances().items()} == {by_tcp: "tcp", by_udp: "udp"}
        assert {await ask(proxy.target) for _ in range(4)} == {"tcp"}

        def asked() -> tuple[str, int]:
            client.send(b"question")
            try:
                sender: tuple[str, int] = target.recvfrom(100)[1]
            except TimeoutError as error:
                raise AssertionError("no datagram came through") from error
            return sender

        sender = await asyncio.to_thread(eventually, asked)
        target.sendto(b"answer", sender)
        assert await asyncio.to_thread(client.recv, 100) == b"answer"
