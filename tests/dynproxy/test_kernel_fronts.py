"""Fronts that come and go while the kernel plane runs, as those of containers do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace

import pytest

from ambcore.errors import ConfigError
from ambcore.model import Address, Instance, Protocol
from ambnet.nft import Nft
from dynproxy.config import Front, read
from dynproxy.kernel_plane import KernelPlane, kernel_plane, table_of
from dynproxy.planes import chosen_plane
from dynproxy.probe import Probe
from dynproxy.ruleset import Port
from tests.dynproxy.test_kernel_plane import Relay
from tests.support.faulty_nft import FaultyNft
from tests.support.netns import Namespace
from tests.support.udp_peers import udp_socket
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.netns

TCP, UDP = Protocol.TCP, Protocol.UDP
REDIS, DNS, DNS_TCP = Front("redis:6379", 6379, TCP), Front("dns:53", 53, UDP), Front("dns:53", 53, TCP)
SETTINGS = read(["--container", "redis", "--container", "dns"], {})
NAME = table_of(SETTINGS)


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    with Namespace() as namespace, namespace.entered():
        yield


@contextlib.asynccontextmanager
async def running(nft: Nft, expected: Iterable[Front] = ()) -> AsyncIterator[KernelPlane]:
    probe = Probe(("ip",), "the kernel forwards IPv4")
    async with kernel_plane(SETTINGS, Relay(), nft, probe, lambda _: None, expected) as plane:
        yield plane


def instance(front: Front, host: str = "172.17.0.2") -> Instance:
    return Instance(front.service, "x", Address(host, front.port), front.protocol or TCP)


def port(front: Front) -> Port:
    return Port(front.protocol or TCP, front.port)


async def chains(table: str = NAME) -> set[str]:
    """The ports that the kernel's table has rules for; none if there is no table."""
    if table not in str(await Nft().read("list tables")):
        return set()
    items = await Nft().read(f"list table ip {table}")
    names = {item["chain"]["name"] for item in items if "chain" in item}
    return {name for name in names if not name.endswith("_ring")} - {"prerouting", "postrouting", "guard"}


async def test_a_front_that_is_opened_later_is_the_kernels_as_soon_as_somebody_is_behind_it() -> None:
    async with running(FaultyNft()) as plane:
        await plane.open(REDIS)
        assert not plane._tables.serves("ip", port(REDIS))
        await plane.apply(REDIS.service, (instance(REDIS),))
        assert plane._tables.serves("ip", port(REDIS))
        await plane.open(DNS)
        await plane.apply(DNS.service, (instance(DNS, "172.17.0.3"),))
        assert await chains() == {"tcp_6379", "udp_53"}
        assert plane._tables.held("ip", port(REDIS)) == {Address("172.17.0.2", 6379)}
        assert plane._tables.held("ip", port(DNS)) == {Address("172.17.0.3", 53)}
        assert plane.stats().serves(REDIS.service).plane == "kernel"


async def test_a_front_for_one_protocol_leaves_the_other_alone() -> None:
    async with running(FaultyNft()) as plane:
        await plane.open(DNS)
        await plane.apply(DNS.service, (instance(DNS), instance(DNS_TCP)))
        assert await chains() == {"udp_53"}
        await plane.open(DNS_TCP)
        await plane.apply(DNS.service, (instance(DNS), instance(DNS_TCP)))
        assert await chains() == {"udp_53", "tcp_53"}


async def test_a_front_that_is_closed_is_nobodys_and_the_others_go_on() -> None:
    async with running(FaultyNft()) as plane:
        for front in (REDIS, DNS):
            await plane.open(front)
            await plane.apply(front.service, (instance(front),))
        await plane.apply(DNS.service, ())
        await plane.close(DNS)
        await plane.apply(REDIS.service, (instance(REDIS, "172.17.0.9"),))

        async def written() -> bool:  # nobody waits for long for a busy machine's nft
            return plane._tables.held("ip", port(REDIS)) == {Address("172.17.0.9", 6379)}

        await eventually_async(written)
        assert await chains() == {"tcp_6379"}
        assert DNS.service not in plane.stats().serving


async def test_a_front_that_finds_its_port_taken_takes_it_from_nobody() -> None:
    """A container that exposes a port of the command line: whoever opens in vain closes what could not be opened."""
    settings = read(["cache:6379", "--container", "redis", "--plane", "kernel"], {})
    async with chosen_plane(settings, expected=[REDIS]) as plane:
        with pytest.raises(ConfigError, match="Address already in use"):
            await plane.open(REDIS)
        await plane.close(REDIS)
        await plane.apply("cache", (replace(instance(REDIS), service="cache"),))
        assert "tcp_6379" in await chains(table_of(settings))
        assert plane.stats().serves("cache").plane == "kernel"


async def test_who_opens_and_closes_does_not_wait_for_an_nft_that_hangs() -> None:
    nft = FaultyNft()
    async with running(nft) as plane:
        await plane.open(REDIS)
        nft.flowing.clear()
        await plane.apply(REDIS.service, (instance(REDIS),))
        await plane.open(DNS)
        await plane.apply(DNS.service, (instance(DNS),))
        await plane.close(REDIS)
        nft.flowing.set()
        await plane._tables.written(plane._tables.want({}))
        assert await chains() == {"udp_53"}


async def test_what_was_counted_survives_another_front() -> None:
    """The tables are made anew for it. A rule of the test's own counts what this host sends to itself."""
    async with running(FaultyNft()) as plane:
        await plane.open(REDIS)
        await plane.apply(REDIS.service, (instance(REDIS),))
        await Nft().apply(
            f"add chain ip {NAME} test {{ type filter hook output priority 0; }}\n"
            f"add rule ip {NAME} test meta l4proto udp counter name tcp_6379_new\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(7):
                sender.sendto(b"", ("127.0.0.1", 9))
        await plane.open(DNS)
        await plane.apply(DNS.service, (instance(DNS),))
        assert await chains() == {"tcp_6379", "udp_53"}
        assert plane.stats().serves(REDIS.service).traffic.connections == 7


async def test_a_later_process_goes_on_with_the_fronts_that_are_still_exposed() -> None:
    async with running(FaultyNft()) as plane:
        for front in (REDIS, DNS):
            await plane.open(front)
            await plane.apply(front.service, (instance(front),))
        marks = plane._tables.marks("ip", port(REDIS), [instance(REDIS).address])
    nft = FaultyNft()
    async with running(nft, [REDIS]) as heir:
        assert heir._tables.serves("ip", port(REDIS))
        assert await chains() == {"tcp_6379", "udp_53"}, "nothing is done before the fronts are open"
        await heir.open(REDIS)
        assert heir._members["ip", port(REDIS)] == {instance(REDIS).address}
        await heir.apply(REDIS.service, (instance(REDIS),))
        assert heir._tables.marks("ip", port(REDIS), [instance(REDIS).address]) == marks
        assert await chains() == {"tcp_6379"}


@pytest.mark.parametrize("plane", ["kernel", "relay"])
async def test_without_a_container_nothing_of_a_former_self_goes_on(plane: str) -> None:
    """Its address may be another's by now."""
    async with running(FaultyNft()) as former:
        await former.open(REDIS)
        await former.apply(REDIS.service, (instance(REDIS),))
    if plane == "kernel":
        async with running(FaultyNft()) as heir:
            await heir._tables.written(heir._tables.want({}))
            assert await chains() == set()
        return
    async with chosen_plane(read(["--container", "dns", "--container", "redis", "--plane", "relay"], {})):
        assert NAME not in str(await Nft().read("list tables"))


@pytest.mark.parametrize("plane", ["kernel", "relay"])
async def test_another_programs_udp_port_is_left_to_it(plane: str) -> None:
    """A dynproxy's, too: neither its clients nor its rules are taken from it by who goes without that port."""
    settings = read(["dns:53", "--plane", plane], {})
    queries = Instance("dns", "a", Address("172.17.0.3", 53), UDP)
    transfers = Instance("dns", "b", Address("172.17.0.3", 53))
    with udp_socket("127.0.0.1", 53):
        async with running(FaultyNft()) as other:
            await other.open(DNS)
            await other.apply(DNS.service, (instance(DNS),))
            async with chosen_plane(settings) as ours:
                await ours.apply("dns", (queries, transfers))
                assert await chains() == {"udp_53"}
                assert await chains(table_of(settings)) == ({"tcp_53"} if plane == "kernel" else set())


def test_the_tables_name_is_that_of_the_containers_in_any_order() -> None:
    def name(*argv: str) -> str:
        return table_of(read(argv, {}))

    assert name("--container", "dns", "--container", "redis") == NAME
    assert name("--container", "dns") != NAME
    assert name("--container", "dns", "--listen", "10.0.0.1").startswith("ambassador_10.0.0.1_of-")
    assert name("redis-A:6379", "redis-B:80") == "ambassador_80"
