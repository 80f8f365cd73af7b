"""How the kernel plane divides the work: what it tells the relay, the rules and those who check, and when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from ambcore.model import Address, Instance, Protocol, Readiness
from ambnet.nft import Nft, NftError, Trouble
from dynproxy.config import Front, read
from dynproxy.flows import Those
from dynproxy.kernel_plane import KernelPlane, kernel_plane
from dynproxy.plane import PlaneStats
from dynproxy.probe import Probe
from dynproxy.ruleset import Port
from tests.support.faulty_nft import FaultyNft
from tests.support.netns import Namespace
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.netns

SERVICE, OTHER = "redis-A", "redis-B"
HTTP = Port(Protocol.TCP, 80)
WHY = "the kernel forwards IPv4 and IPv6"


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    with Namespace() as namespace, namespace.entered():
        yield


class Relay:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.applied: list[tuple[str, str, frozenset[str]]] = []
        self.drained: list[float] = []
        self.open_fronts: list[Front] = []

    async def open(self, front: Front) -> None:
        self.open_fronts.append(front)

    async def close(self, front: Front) -> None:
        self.open_fronts.remove(front)

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        self.applied.append((service, "".join(item.id for item in instances), unhealthy))

    def stats(self, *, again_soon: bool = True) -> PlaneStats:
        return PlaneStats("relay", "it works anywhere", (1,), True, {})

    async def take_charge(self) -> None:
        pass

    async def give_charge(self) -> None:
        pass

    async def drain(self, seconds: float) -> None:
        self.drained.append(seconds)

    async def aclose(self) -> None:
        pass


@dataclass
class Scene:
    plane: KernelPlane
    nft: FaultyNft
    relay: Relay
    suspects: list[Address] = field(default_factory=list)


@contextlib.asynccontextmanager
async def running(*options: str) -> AsyncIterator[Scene]:
    settings = read([f"{SERVICE}:80", f"{SERVICE}:81", f"{OTHER}:90", *options], {})
    nft, relay, suspects = FaultyNft(), Relay(), list[Address]()
    async with kernel_plane(settings, relay, nft, Probe(("ip", "ip6"), WHY), suspects.append) as plane:
        yield Scene(plane, nft, relay, suspects)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running() as made:
        yield made


def instance(name: str, host: str = "", protocol: Protocol = Protocol.TCP, weight: int = 1) -> Instance:
    address = Address(host or f"10.0.0.{ord(name) - ord('a') + 1}", 80)
    return Instance(SERVICE, name, address, protocol=protocol, weight=weight)


A, B, C = (instance(name) for name in "abc")
A6 = instance("a", "fd00::1")


async def listing(family: str = "ip") -> str:
    """What the kernel's table of a family holds."""
    return str(await Nft().read(f"list table {family} ambassador_80"))


async def test_every_port_of_the_service_and_none_of_another_serves_it(scene: Scene) -> None:
    await scene.plane.apply(SERVICE, (A, B))
    tables = scene.plane._tables
    for number, held in ((80, {A.address, B.address}), (81, {A.address, B.address}), (90, set[Address]())):
        assert tables.held("ip", Port(Protocol.TCP, number)) == held
        assert tables.held("ip", Port(Protocol.UDP, number)) == set()
        assert tables.held("ip6", Port(Protocol.TCP, number)) == set()


async def test_whoever_drains_or_is_unhealthy_is_not_in_the_rules_and_the_relay_is_told_all(scene: Scene) -> None:
    draining = Instance(SERVICE, "b", B.address, readiness=Readiness.DRAINING)
    await scene.plane.apply(SERVICE, (A, draining, C), frozenset({"c"}))
    held = await listing()
    assert A.address.host in held
    assert B.address.host not in held
    assert C.address.host not in held
    assert scene.relay.applied == [(SERVICE, "abc", frozenset({"c"}))]
    await scene.plane.apply(SERVICE, (C,), frozenset({"c"}))
    serving = scene.plane.stats().serves(SERVICE)
    assert (serving.plane, serving.why) == ("relay", "no instance takes clients: they wait")


async def test_the_kernel_is_looked_at_more_often_only_for_who_asks_again_soon(scene: Scene) -> None:
    """The page's samples go on while nobody looks, and have to cost as little as that."""
    scene.plane.stats(again_soon=False)
    assert not scene.plane._asked
    scene.plane.stats()
    assert scene.plane._asked


async def test_says_which_plane_serves_and_why(scene: Scene) -> None:
    def said() -> tuple[str, str]:
        serving = scene.plane.stats().serves(SERVICE)
        return serving.plane, serving.why

    assert said() == ("relay", "not known yet: clients wait")
    await scene.plane.apply(SERVICE, ())
    assert said() == ("relay", "no instance takes clients: they wait")
    await scene.plane.apply(SERVICE, (A,))
    assert said() == ("kernel", f"{WHY}; no instance for IPv6 clients, the relay serves them")
    await scene.plane.apply(SERVICE, (A, A6))
    assert said() == ("kernel", WHY)
    scene.nft.fail()
    await scene.plane.apply(SERVICE, (B, A6))
    assert said() == ("kernel", f"{WHY}; as it was: a transaction failed: {scene.nft.trouble}")
    stats = scene.plane.stats()
    assert (stats.plane, stats.processes, stats.healthy) == ("kernel", (1,), True)
    assert stats.kernel is not None
    assert (stats.kernel.transactions, stats.kernel.failures) == (3, 1)
    assert stats.kernel.tables == ("ip ambassador_80", "ip6 ambassador_80")


async def test_C10_an_nft_that_hangs_keeps_nothing_from_the_relay(scene: Scene) -> None:
    scene.nft.flowing.clear()
    async with asyncio.timeout(5):
        for instances in ((A,), (A, B), (B,)):
            await scene.plane.apply(SERVICE, instances)
    assert [text for _, text, _ in scene.relay.applied] == ["a", "ab", "b"]
    scene.nft.flowing.set()
    await eventually_async(lambda: shows(B, gone=A))


async def test_what_is_learnt_while_charge_is_taken_is_not_undone_by_it(scene: Scene) -> None:
    """Each service is written in turn, and a transaction takes its time."""
    scene.plane._tables.in_charge = False
    await scene.plane.apply(SERVICE, (A,))
    await scene.plane.apply(OTHER, (B,))
    scene.nft.flowing.clear()
    taking = asyncio.create_task(scene.plane.take_charge())
    await scene.nft.called.wait()
    learnt = asyncio.create_task(scene.plane.apply(OTHER, (C,)))
    await asyncio.sleep(0)
    scene.nft.flowing.set()
    await asyncio.gather(taking, learnt)
    assert scene.plane._tables.held("ip", Port(Protocol.TCP, 90)) == {C.address}
    assert scene.relay.applied[-1] == (OTHER, "c", frozenset())


async def test_who_leaves_again_has_the_whole_time_of_the_last_removal() -> None:
    ended: list[float] = []
    async with running("--on-removal", "drain=1") as scene:

        async def end(those: Those) -> None:
            if those.marks and those.port == HTTP:
                ended.append(time.monotonic())

        scene.plane._flows.end = end  # type: ignore[method-assign]
        await scene.plane.apply(SERVICE, (A, B))
        await scene.plane.apply(SERVICE, (B,))
        await scene.plane.apply(SERVICE, (A, B))
        await asyncio.sleep(0.6)
        left = time.monotonic()
        await scene.plane.apply(SERVICE, (B,))
        await eventually_async(lambda: asyncio.sleep(0, ended))
        assert ended[0] - left >= 1
        assert scene.plane._left == {}


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])  # noqa: S104
async def test_every_address_is_served_however_that_is_said(address: str) -> None:
    async with running("--listen", address) as scene:
        await scene.plane.apply(SERVICE, (A, A6))
        assert scene.plane._tables.error is None
        for family in ("ip", "ip6"):
            assert "fib" in await listing(family), "any address of this machine's"


async def shows(item: Instance, *, gone: Instance) -> bool:
    try:
        held = await listing()
    except NftError:
        return False
    return item.address.host in held and gone.address.host not in held


async def test_whoever_refused_a_client_is_suspected_and_shown(scene: Scene) -> None:
    await scene.plane.apply(SERVICE, (A, B))
    scene.plane.stats()  # somebody asks: so it looks every second
    (dead,) = scene.plane._tables.marks("ip", HTTP, [A.address])
    await Nft().apply(f"add element ip ambassador_80 dead {{ {dead} }}\n")
    await eventually_async(lambda: asyncio.sleep(0, scene.suspects), 10)
    assert set(scene.suspects) == {A.address}
    assert scene.plane.stats().serves(SERVICE).refusing == {"a"}


@pytest.mark.parametrize("how", ["keep", "remove"])
async def test_rules_stay_or_go_on_exit(how: str) -> None:
    async with running("--on-exit", how) as scene:
        await scene.plane.apply(SERVICE, (A,))
        await scene.plane.drain(5)
        assert scene.relay.drained == [5]
        await scene.plane.apply(SERVICE, (A, B))  # too late for one that leaves
    tables = str(await Nft().read("list tables"))
    assert ("ambassador" in tables) is (how == "keep")


async def test_rules_that_cannot_be_removed_are_said_to_stay(caplog: pytest.LogCaptureFixture) -> None:
    async with running("--on-exit", "remove") as scene:
        await scene.plane.apply(SERVICE, (A,))
        scene.nft.fail(Trouble.MISSING)
        await scene.plane.drain(5)
    assert f"the kernel's rules stay: {scene.nft.trouble}" in caplog.messages


async def test_an_nft_that_hangs_does_not_keep_us_from_leaving(caplog: pytest.LogCaptureFixture) -> None:
    async with running("--on-exit", "remove") as scene:
        await scene.plane.apply(SERVICE, (A,))
        scene.nft.flowing.clear()
        await asyncio.wait_for(scene.plane.drain(5), 10)
    assert "the kernel's rules stay: nft takes too long" in caplog.messages
