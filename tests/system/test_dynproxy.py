"""dynproxy as a process, real etcd, real servers, clients that know nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from bench.load import ask, burst, steady_load
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program, fetch, rss_mib, status
from tests.support.waiting import eventually
from tests.system.proxies import LOCAL, Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]


async def test_follows_records_that_another_client_writes(
    shared_etcd: EtcdCluster, service: str, records: Records
) -> None:
    """JSON and plain `host:port` alike; a new instance is used, a changed one moved to, a deleted one left."""
    with servers("a", "b") as (a, b), Proxy(shared_etcd, service) as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        assert await ask(proxy.target) == "a"
        records.raw("one", f"127.0.0.1:{b.port}")
        eventually(lambda: proxy.instances()["one"]["address"] == f"127.0.0.1:{b.port}")
        assert await ask(proxy.target) == "b"
        records.put("two", a.port)
        proxy.wait_instances("one", "two")
        assert sorted((await burst(proxy.target, 10, at_once=1)).answers.values()) == [5, 5]
        records.delete("one")
        proxy.wait_instances("two")
        assert (await burst(proxy.target, 10)).answers == {"a": 10}


async def test_connection_waits_for_a_first_instance(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    """Nobody alive: the connection is parked, and released when an instance appears."""
    with servers("a") as (a,), Proxy(shared_etcd, service) as proxy:
        proxy.wait_ready()
        waiting = asyncio.create_task(ask(proxy.target))
        await asyncio.to_thread(
            eventually, lambda: status(proxy.admin)["services"][0]["parked"] == 1, 5, "the connection is parked"
        )
        records.put("one", a.port)
        assert await asyncio.wait_for(waiting, 2) == "a"


async def test_parked_connection_is_closed_when_its_time_is_up(shared_etcd: EtcdCluster, service: str) -> None:
    with Proxy(shared_etcd, service, "--park", "0.5") as proxy:
        proxy.wait_ready()
        started = time.monotonic()
        with pytest.raises((EOFError, ConnectionError)):
            await ask(proxy.target)
        assert 0.4 < time.monotonic() - started < 3


async def test_draining_instance_keeps_its_connections_and_gets_no_new_ones(
    shared_etcd: EtcdCluster, service: str, records: Records
) -> None:
    with servers("a", "b") as (a, b), Proxy(shared_etcd, service) as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"who\n")
        assert await reader.readline() == b"a\n"
        records.put("two", b.port)
        records.put("one", a.port, state="draining")
        eventually(lambda: proxy.instances()["one"]["state"] == "draining" and "two" in proxy.instances())
        assert (await burst(proxy.target, 20)).answers == {"b": 20}
        writer.write(b"who\n")
        assert await reader.readline() == b"a\n"
        writer.close()


@pytest.mark.parametrize(("policy", "survives"), [("keep", True), ("cut", False), ("drain=1", False)])
async def test_pain_22_open_connection_follows_on_removal(
    shared_etcd: EtcdCluster, service: str, records: Records, policy: str, survives: bool
) -> None:
    with servers("a") as (a,), Proxy(shared_etcd, service, "--on-removal", policy) as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"who\n")
        assert await reader.readline() == b"a\n"
        records.delete("one")
        proxy.wait_instances()
        if survives:
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
        else:
            with pytest.raises(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b"never an orderly end"
        writer.close()


async def test_C1_backend_kill_breaks_only_its_own_connections(
    shared_etcd: EtcdCluster, service: str, records: Records
) -> None:
    """SIGKILL of one of three under 200 new connections a second; nobody tells the registry."""
    with servers("a", "b", "c") as (a, b, c), Proxy(shared_etcd, service) as proxy:
        for server in (a, b, c):
            records.put(server.name, server.port)
        proxy.wait_instances("a", "b", "c")
        async with steady_load(proxy.target, 200) as outcome:
            await asyncio.sleep(1)
            a.kill()
            killed = time.monotonic()
            await asyncio.sleep(2)
        assert outcome.total > 500
        assert outcome.failures_since(killed) == []
        assert len(outcome.failures) <= 3, "more broke than can have been in flight"


async def test_C2_backend_refuses(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    """A stale record of a closed port: no client error, hardly any delay, and soon it is asked last."""
    with servers("a") as (a,), Proxy(shared_etcd, service) as proxy:
        records.put("alive", a.port)
        records.put("stale", free_port())
        proxy.wait_instances("alive", "stale")
        outcome = await burst(proxy.target, 500, at_once=10)
        assert outcome.failures == []
        assert outcome.answers == {"a": 500}
        eventually(lambda: proxy.instances()["stale"]["connect_failures"], 5, "failures are counted")
        shown = proxy.instances()["stale"]
        assert 3 <= shown["connect_failures"] <= 5
        assert shown["state"] == "ejected"


async def test_C3_backend_blackhole_and_a_closed_port_beside_one_alive(
    shared_etcd: EtcdCluster, service: str, records: Records, black_hole: int
) -> None:
    """1,000 of 1,000 new connections succeed; the unlucky wait one connect timeout, and few are unlucky."""
    with servers("a") as (a,), Proxy(shared_etcd, service) as proxy:
        records.put("alive", a.port)
        records.put("closed", free_port())
        records.put("hole", black_hole)
        proxy.wait_instances("alive", "closed", "hole")
        outcome = await burst(proxy.target, 1000, at_once=20)
        assert outcome.failures == []
        assert outcome.answers == {"a": 1000}
        assert max(outcome.seconds) < 3 + 1
        assert sum(seconds > 1 for seconds in outcome.seconds) <= 25


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose SYNs are swallowed: a listener whose queue is full answers nothing (tcp_abort_on_overflow=0)."""
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_C5_rolling_replace_loses_nobody(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    """Each instance is drained, replaced and removed in turn under 200 new connections a second."""
    with servers("a", "b", "c", "d") as each, Proxy(shared_etcd, service) as proxy:
        for server in each[:2]:
            records.put(server.name, server.port)
        proxy.wait_instances("a", "b")
        async with steady_load(proxy.target, 200) as outcome:
            for old, new in zip(each[:2], each[2:], strict=True):
                await asyncio.to_thread(records.put, new.name, new.port)
                await asyncio.to_thread(records.put, old.name, old.port, state="draining")
                await asyncio.to_thread(
                    eventually,
                    lambda old=old: (
                        (proxy.instances()[old.name]["state"], proxy.instances()[old.name]["connections"])
                        == ("draining", 0)
                    ),
                )
                await asyncio.to_thread(records.delete, old.name)
                old.kill()
        assert outcome.failures == []


async def test_C7_sigterm_drains_then_exits_0(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    """100 long connections: none is cut while it lasts, none is accepted any more, and the last to end ends us."""
    with servers("a") as (a,), Proxy(shared_etcd, service, "--drain", "20") as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        pairs = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(100)]
        for reader, writer in pairs:
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
        proxy.signal(signal.SIGTERM)
        await asyncio.to_thread(eventually, lambda: _refused(proxy.port), 5, "no new connection is accepted")
        for reader, writer in pairs:
            writer.write(b"who\n")
            assert await reader.readline() == b"a\n"
            writer.close()
        assert await asyncio.to_thread(proxy.process.wait, 10) == 0


async def test_C7_drain_ends_at_its_deadline(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    with servers("a") as (a,), Proxy(shared_etcd, service, "--drain", "1") as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"who\n")
        assert await reader.readline() == b"a\n"
        started = time.monotonic()
        assert await asyncio.to_thread(proxy.stop) == 0
        assert 0.9 < time.monotonic() - started < 4
        with pytest.raises(ConnectionResetError):
            assert await reader.read() == b"never an orderly end"
        writer.close()
        proxy.wait_for(r"drained in .* connections cut: 1")


async def test_a_second_sigterm_ends_everything_at_once_with_1(
    shared_etcd: EtcdCluster, service: str, records: Records
) -> None:
    with servers("a") as (a,), Proxy(shared_etcd, service, "--drain", "30") as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"who\n")
        assert await reader.readline() == b"a\n"
        proxy.signal(signal.SIGTERM)
        await asyncio.to_thread(eventually, lambda: _refused(proxy.port), 5, "no new connection is accepted")
        proxy.signal(signal.SIGTERM)
        assert await asyncio.to_thread(proxy.process.wait, 5) == 1
        with pytest.raises(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 2) == b"never an orderly end"
        writer.close()


def _refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


HOSTILE = [
    "",
    "{",
    '{"host": "169.254.169.254", "port": 80}',
    '{"host": "::1", "port": 80}',
    '{"host": "10.0.0.1", "port": 0}',
    '{"host": "10.0.0.1; flush ruleset", "port": 80}',
    '{"host": "10.0.0.1", "port": 80, "host": "10.0.0.2"}',
    "x" * 9000,
    "[" * 5000,
]


async def test_C24_hostile_record_is_counted_and_ignored_and_the_last_good_one_kept(
    shared_etcd: EtcdCluster, service: str, records: Records
) -> None:
    with servers("a") as (a,), Proxy(shared_etcd, service) as proxy:

        def metrics() -> str:
            return fetch(f"http://{proxy.admin}/metrics")[1]

        def refused() -> int:
            lines = [line for line in metrics().splitlines() if line.startswith("amb_records_refused_total")]
            return int(sum(float(line.split()[-1]) for line in lines))

        records.put("one", a.port)
        proxy.wait_instances("one")
        for number, value in enumerate(HOSTILE, 1):
            records.raw("one", value)
            eventually(lambda so_many=number: refused() == so_many, 10, f"refused: {value}")  # type: ignore[misc]
        records.put("self", proxy.port)
        eventually(lambda: len(status(proxy.admin)["services"][0]["refused"]) == 2, 5, "both keys are shown refused")
        assert (await burst(proxy.target, 20)).answers == {"a": 20}
        assert refused() == len(HOSTILE) + 1
        assert f'amb_records_refused_total{{reason="own_listener",service="{service}"}} 1.0' in metrics()


def test_unreachable_etcd_is_said_in_one_line_and_retried(service: str) -> None:
    with Program("dynproxy", service, str(free_port()), *LOCAL, "--etcd", f"http://127.0.0.1:{free_port()}") as proxy:
        proxy.wait_for(r"etcd")
        time.sleep(2)  # long enough for a second and third attempt, which must be silent
        complaints = [line for line in proxy.lines if "WARNING" in line or "ERROR" in line]
        assert len(complaints) == 1, proxy.log
        assert "Traceback" not in proxy.log
        assert proxy.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "SERVICE PORT"),
        (("redis-A",), "SERVICE"),
        (("redis-A", "0"), "PORT"),
        (("redis-A", "70000"), "PORT"),
        (("redis/A", "6379"), "SERVICE"),
        (("a:6379", "b:6379"), "PORT"),
        (("redis-A", "6379", "--park", "soon"), "--park"),
        (("redis-A", "6379", "--on-removal", "explode"), "--on-removal"),
        (("redis-A", "6379", "--workers", "0"), "--workers"),
        (("redis-A", "6379", "--etcd", "ftp://x"), "--etcd"),
        (("redis-A", "6379", "--nonsense"), "--nonsense"),
        (("redis-A", "6379", "--instances-in", "10.0.0.0/99"), "--instances-in"),
        (("redis-A", "6379", "--admin", "nowhere"), "--admin"),
    ],
)
def test_bad_arguments_exit_2_with_one_line_naming_the_option(arguments: tuple[str, ...], named: str) -> None:
    with Program("dynproxy", *arguments) as proxy:
        assert proxy.process.wait(10) == 2
        eventually(lambda: proxy.lines)
    assert len(proxy.lines) == 1
    assert named in proxy.lines[0]


async def test_resident_set_stays_within_its_limits(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    """Control process 75 MiB, each worker 20 MiB, after some work."""
    with servers("a") as (a,), Proxy(shared_etcd, service, "--workers", "2") as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        assert (await burst(proxy.target, 500)).failures == []
        workers = status(proxy.admin)["plane"]["processes"]
        assert len(workers) == 2
        assert rss_mib(proxy.pid) <= 75
        assert all(rss_mib(pid) <= 20 for pid in workers)


async def test_a_control_process_that_stands_still_costs_no_client(
    shared_etcd: EtcdCluster, service: str, records: Records
) -> None:
    with servers("a", "b") as (a, b), Proxy(shared_etcd, service) as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        proxy.signal(signal.SIGSTOP)
        records.put("one", b.port)
        outcome = await burst(proxy.target, 500)
        assert outcome.failures == []
        assert outcome.answers == {"a": 500}
        proxy.signal(signal.SIGCONT)
        eventually(lambda: proxy.instances()["one"]["address"] == f"127.0.0.1:{b.port}")
        assert (await burst(proxy.target, 20)).answers == {"b": 20}


async def test_killed_worker_is_replaced(shared_etcd: EtcdCluster, service: str, records: Records) -> None:
    """The listening socket is the parent's: what arrives meanwhile waits in its queue."""
    with servers("a") as (a,), Proxy(shared_etcd, service) as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        (worker,) = status(proxy.admin)["plane"]["processes"]
        os.kill(worker, signal.SIGKILL)
        assert await asyncio.wait_for(ask(proxy.target), 5) == "a"
        assert status(proxy.admin)["plane"]["processes"] != [worker]
