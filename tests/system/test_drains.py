"""Operators' drains and the programs' announcements, with whole programs on a real etcd."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.load import burst, steady_load
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.programs import ROOT, Program, _clean_environment, status
from tests.support.waiting import eventually, eventually_async
from tests.system.proxies import Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]

Ambctl = Callable[..., Any]


@pytest.fixture
def ambctl(shared_etcd: EtcdCluster, prefix: str) -> Ambctl:
    """What an ambctl of this test's fleet prints with --json; it has to succeed."""

    def run(*arguments: str) -> Any:
        where = {"AMB_ETCD": ",".join(shared_etcd.endpoints), "AMB_FLEET_PREFIX": prefix}
        done = subprocess.run(
            [sys.executable, "-m", "ambctl", *arguments, "--json", "--instances-in", "127.0.0.0/8,10.0.0.0/8"],
            cwd=ROOT,
            env={**_clean_environment(), **where},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def announced(etcd: EtcdCluster, fleet: str) -> dict[str, dict[str, Any]]:
    """What stands in etcd of programs, by key."""
    lines = etcd.etcdctl("get", "--prefix", f"{fleet}programs/").splitlines()
    return {key: json.loads(value) for key, value in zip(lines[::2], lines[1::2], strict=True)}


def owners(etcd: EtcdCluster, fleet: str) -> set[str | None]:
    """Whose records are kept by the programs that are announced."""
    return {told.get("owner") for told in announced(etcd, fleet).values()}


def drained(proxy: Proxy, *names: str) -> bool:
    """Whether a proxy gives these instances no new connections, because of an operator."""
    instances = proxy.instances()
    return all(instances[name]["state"] == "draining" and instances[name]["drained"] for name in names)


async def test_a_drain_fails_nobody_and_outlives_proxies(
    shared_etcd: EtcdCluster, service: str, prefix: str, records: Records, ambctl: Ambctl
) -> None:
    """Under load at two proxies an instance is drained; one proxy is killed and started again; then it is undrained.

    What the killed one announced ends with its lease, what one announced that was told to end, with that.
    """
    with servers("a", "b") as (a, b):
        records.put("one", a.port)
        records.put("two", b.port)
        first, second = (Proxy(shared_etcd, service, "--fleet-prefix", prefix) for _ in range(2))
        with second:
            with first:
                for proxy in (first, second):
                    proxy.wait_instances("one", "two")
                async with steady_load(first.target, 40) as one, steady_load(second.target, 40) as two:
                    told = await asyncio.to_thread(ambctl, "drain", f"{service}/one", "--why", "disk")
                    for proxy in (first, second):
                        await asyncio.to_thread(eventually, partial(drained, proxy, "one"))
                    assert told["instances"] == [f"{service}/one"]
                    after = [await burst(proxy.target, 30) for proxy in (first, second)]
                assert one.failures == two.failures == []
                assert [each.answers for each in after] == [{"b": 30}, {"b": 30}]
                await asyncio.to_thread(eventually, lambda: len(announced(shared_etcd, prefix)) == 2)
                both = announced(shared_etcd, prefix)
                assert {told["admin"] for told in both.values()} == {f"http://{p.admin}" for p in (first, second)}
                assert all(told["services"] == [service] for told in both.values())
                killed = status(first.admin)["fleet"]["announced"]
                first.kill()
            with first:
                await asyncio.to_thread(first.wait_instances, "one", "two")
                again = await burst(first.target, 30)
                assert (again.answers, again.failures) == ({"b": 30}, [])
                assert first.instances()["one"]["drained"]["why"] == "disk"
                await asyncio.to_thread(ambctl, "undrain", service, "one")
                for proxy in (first, second):
                    await eventually_async(partial(answers, proxy, "a"), 10, "both answer again")
                ended = status(first.admin)["fleet"]["announced"]
                first.stop()
                assert ended not in announced(shared_etcd, prefix)
            await asyncio.to_thread(
                eventually, lambda: killed not in announced(shared_etcd, prefix), 40, "the lease of a killed one ends"
            )
            assert list(announced(shared_etcd, prefix)) == [status(second.admin)["fleet"]["announced"]]


async def answers(proxy: Proxy, name: str) -> bool:
    """Whether a server gets connections of a proxy's clients."""
    outcome = await burst(proxy.target, 10)
    return name in outcome.answers


def test_a_hosts_drain_outlives_its_registrar(
    tmp_path: Path, shared_etcd: EtcdCluster, service: str, prefix: str, ambctl: Ambctl
) -> None:
    """The registrar is killed and its next life writes the record anew: no proxy takes that for the end of a drain."""
    fleet = ("--fleet-prefix", prefix)
    name = "drained-host:web:80"
    with FakeDocker(tmp_path, "drained-host") as docker:
        docker.start("web", "49153:80/tcp", labels={"SERVICE_NAME": service})

        def registrar() -> Program:
            where = ("--etcd", ",".join(shared_etcd.endpoints), "--docker", docker.url)
            return Program("registrar", *where, *fleet, "--advertise", "10.1.2.3", "--ttl", "5")

        def record() -> str:
            return shared_etcd.etcdctl("get", "--print-value-only", f"/services/{service}/{name}")

        unchecked = ("--instances-in", "10.0.0.0/8", "--check-interval", "0")  # nobody is at that address
        with Proxy(shared_etcd, service, *fleet, *unchecked) as proxy:
            with registrar() as program:
                proxy.wait_instances(name)
                owner = json.loads(record())["owner"]
                eventually(
                    lambda: owner in owners(shared_etcd, prefix), 10, "its registrar says whose records it keeps"
                )
                hit = ambctl("drain", "--host", "drained-host", "--force")
                assert hit["emptied"] == [service]
                eventually(lambda: drained(proxy, name))
                before = record()
                program.kill()
            with registrar():
                eventually(lambda: record() not in ("", before), 20, "the next life writes the record")
                assert drained(proxy, name)
                (listed,) = ambctl("drains")["drains"]
                assert (listed["host"], listed["instances"]) == ("drained-host", [f"{service}/{name}"])
                assert "-> up" not in proxy.log
                ambctl("undrain", "--host", "drained-host")
                proxy.wait_for("readiness draining -> up")
