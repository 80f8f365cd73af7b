"""One writer between what is wanted and what the kernel holds: a real kernel, and an nft that fails on request."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest

from ambcore.admission import IPNetwork, parse_networks
from ambcore.model import Address, Protocol
from ambnet.daemon import background
from ambnet.nft import Nft, Trouble
from dynproxy import adopted
from dynproxy.endpoints import Want
from dynproxy.kept_table import Wants
from dynproxy.kernel_tables import KernelTables
from dynproxy.ruleset import Port, Ruleset, table_name
from tests.support.faulty_nft import FaultyNft
from tests.support.listing import dead as dead_in
from tests.support.netns import Namespace
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.netns

A, B, C = (Address(f"10.0.0.{number}", 80) for number in (1, 2, 3))
HTTP, DNS = Port(Protocol.TCP, 80), Port(Protocol.UDP, 53)
NAME = "ambassador_53"


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    with Namespace() as namespace, namespace.entered():
        yield


@pytest.fixture
async def nft() -> FaultyNft:
    return FaultyNft()


@contextlib.asynccontextmanager
async def running(
    nft: Nft, ports: Iterable[Port] = (HTTP, DNS), clients: tuple[IPNetwork, ...] | None = None
) -> AsyncIterator[KernelTables]:
    ports = list(ports)
    name = table_name(None, (port.number for port in ports))
    tables = KernelTables(nft, [Ruleset("ip", name, clients=clients)], ports)
    await tables.adopt()
    async with background(tables.run):
        yield tables


def http(*addresses: Address) -> dict[str, Wants]:
    return {"ip": {HTTP: Want("round-robin", dict.fromkeys(addresses, 1))}}


def dns(*addresses: Address) -> dict[str, Wants]:
    return {"ip": {DNS: Want("round-robin", dict.fromkeys(addresses, 1))}}


async def in_the_kernel(name: str = NAME) -> Ruleset:
    return adopted.ruleset(await Nft().read(f"list table ip {name}"), "ip", name, None)


async def served(port: Port = HTTP) -> set[Address]:
    """Whom the kernel sends a port's clients to."""
    rules = await in_the_kernel()
    return {rules.endpoints[endpoint] for endpoint in rules.fronts[port].slots}


async def test_what_is_wanted_is_in_the_kernel_once_settled(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        for wanted in ({A}, {A, B}, {B, C}, set[Address]()):
            await tables.settled(tables.want(http(*wanted)))
            assert await served() == wanted == tables.held("ip", HTTP)
            assert tables.serves("ip", HTTP) is bool(wanted)


async def test_a_burst_of_wants_travels_together(nft: FaultyNft) -> None:
    """At most twenty transactions a second; the first at once."""
    async with running(nft) as tables:
        started = time.monotonic()
        await tables.settled(tables.want(http(A)))
        for number in range(200):
            last = tables.want(http(A, Address("10.0.1.1", number + 1)))
            await asyncio.sleep(0.001)
        await tables.settled(last)
        assert tables.transactions <= 20 * (time.monotonic() - started) + 2
        assert await served() == {A, Address("10.0.1.1", 200)}


async def test_what_is_wanted_while_a_transaction_is_under_way_is_not_lost(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        nft.flowing.clear()
        tables.want(http(A))
        await nft.called.wait()
        tables.want(dns(B))
        last = tables.want(http(C))
        nft.flowing.set()
        await tables.written(last)
        assert (await served(HTTP), await served(DNS)) == ({C}, {B})


async def test_what_is_wanted_while_a_transaction_fails_comes_before_what_that_wanted(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        nft.flowing.clear()
        tables.want(http(A))
        await nft.called.wait()
        tables.want(dns(B))
        last = tables.want(http(C))
        nft.fail()
        nft.flowing.set()
        await tables.settled(last)
        assert tables.error is not None
        nft.trouble = None
        await tables.written(last)
        assert (await served(HTTP), await served(DNS)) == ({C}, {B})
        assert (tables.failures, tables.transactions) == (1, 1)


@pytest.mark.parametrize("kind", list(Trouble))
async def test_C10_after_a_failure_old_rules_stay_and_all_is_replaced_when_nft_works_again(
    nft: FaultyNft, kind: Trouble
) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A)))
        nft.fail(kind)
        ticket = tables.want(http(B))
        await asyncio.wait_for(tables.settled(ticket), 5)
        assert tables.failures == 1
        assert str(nft.trouble) in (tables.error or "")
        assert await served() == {A}
        assert tables.held("ip", HTTP) == {A}
        nft.trouble = None
        await asyncio.wait_for(tables.written(ticket), 20)
        assert await served() == {B}
        assert nft.applied[-1].startswith(f"add table ip {NAME}\ndelete table ip {NAME}\n")
        assert tables.error is None


async def test_C10_tries_come_less_and_less_often(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        nft.fail()
        ticket = tables.want(http(A))
        for _ in range(100):
            await tables.settled(tables.want(http(A)))  # asking more does not make it try more
            await asyncio.sleep(0.01)
        assert 1 <= tables.failures <= 4
        nft.trouble = None
        await asyncio.wait_for(tables.written(ticket), 20)


async def test_nobody_waits_for_long_for_an_nft_that_hangs(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        nft.flowing.clear()
        started = time.monotonic()
        for addresses in ((A,), (B,), (C,)):
            ticket = tables.want(http(*addresses))
            await tables.settled(ticket)
        assert time.monotonic() - started < 5
        assert len(nft.applied) == 1
        assert tables.error is None
        writing = asyncio.create_task(tables.written(ticket))
        await asyncio.sleep(0.1)
        assert not writing.done()
        nft.flowing.set()
        await asyncio.wait_for(writing, 10)
        assert await served() == {C}
        await tables.settled(tables.want(http(A)))  # and now it is waited for again
        assert await served() == {A}


async def test_a_release_is_told_once_and_only_when_it_is_so(nft: FaultyNft) -> None:
    told: list[tuple[str, Port, frozenset[Address]]] = []
    async with running(nft) as tables:
        tables.on_release = lambda *what: told.append(what)
        await tables.settled(tables.want(http(A, B)))
        await tables.settled(tables.want(http(A, B, C)))
        await tables.settled(tables.want(dns(A)))
        assert told == []
        nft.fail(Trouble.TIMED_OUT)
        ticket = tables.want(http(C))
        await tables.settled(ticket)
        assert told == []
        nft.trouble = None
        await tables.written(ticket)
        assert told == [("ip", HTTP, frozenset({A, B}))]
        await tables.settled(tables.want(http(C)))
        assert len(told) == 1


async def test_a_later_process_goes_on_from_what_an_earlier_one_left(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want({"ip": {**http(A, B)["ip"], **dns(C)["ip"]}}))
        marks = tables.marks("ip", HTTP, [A, B])
    (dead,) = tables.marks("ip", HTTP, [A])
    await nft.apply(f"add element ip {NAME} dead {{ {dead} }}\n")
    nft.applied.clear()
    heir = KernelTables(nft, [Ruleset("ip", NAME)], (HTTP, DNS))
    assert await heir.adopt() == 3
    assert nft.applied == []
    assert heir.held("ip", HTTP) == {A, B}
    assert heir.marks("ip", HTTP, [A, B]) == marks
    async with background(heir.run):
        await heir.settled(heir.want(http(B, C)))
        assert await served(HTTP) == {B, C}
        assert await served(DNS) == {C}, "nothing was said of it"
        assert "delete table" not in "".join(nft.applied)
        assert dead_in(await nft.read(f"list set ip {NAME} dead")), "who refused is forgotten"


async def test_what_was_taken_over_is_looked_after_before_anything_is_wanted(nft: FaultyNft) -> None:
    """etcd may be away for long."""
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A, B)))
    async with running(nft) as heir:

        async def repaired() -> bool:
            await heir.look()
            return heir.transactions == 2 and heir.error is None

        await eventually_async(lambda: asyncio.sleep(0, heir.transactions))
        await Nft().apply("flush ruleset\n")
        await eventually_async(repaired)
        assert await served() == {A, B}
        assert heir.repairs == 1


@pytest.mark.parametrize(("before", "now"), [(None, "10.0.0.0/8"), ("10.0.0.0/8", "10.1.0.0/16"), ("10.0.0.0/8", None)])
async def test_other_clients_than_an_earlier_process_let_in_are_written_at_once(
    nft: FaultyNft, before: str | None, now: str | None
) -> None:
    """Before anything is known of instances, which may take long; whom they are sent to stays."""
    some, others = (None if text is None else parse_networks(text) for text in (before, now))
    async with running(nft, clients=some) as tables:
        await tables.settled(tables.want(http(A, B)))
        assert (await in_the_kernel()).clients == some

    async def written() -> bool:
        return (await in_the_kernel()).clients == others

    async with running(nft, clients=others) as heir:
        await eventually_async(written)
        assert await served() == {A, B}
        await heir.look()
        assert heir.repairs == 0


async def test_clients_that_somebody_else_lets_in_are_put_out_again(nft: FaultyNft) -> None:
    async with running(nft, clients=parse_networks("10.0.0.0/8")) as tables:
        await tables.settled(tables.want(http(A)))
        await tables.look()
        await Nft().apply(f"add element ip {NAME} clients {{ 192.0.2.0/24 }}\n")

        async def repaired() -> bool:
            await tables.look()
            return (await in_the_kernel()).clients == (*parse_networks("10.0.0.0/8"),)

        await eventually_async(repaired)
        assert tables.repairs == 1


async def test_ports_that_are_served_no_more_go_with_the_first_change(nft: FaultyNft) -> None:
    other = Port(Protocol.TCP, 81)
    async with running(nft) as tables:
        await tables.settled(tables.want({"ip": {**http(A)["ip"], **dns(C)["ip"]}}))
        kept = tables.marks("ip", DNS, [C])
    async with running(nft, [DNS, other]) as heir:
        assert heir.held("ip", DNS) == {C}
        assert (await in_the_kernel()).fronts.keys() == {HTTP, DNS}, "adopting changes nothing"
        await heir.settled(heir.want({"ip": {other: Want("random", {B: 1})}}))
        rules = await in_the_kernel()
        assert rules.fronts.keys() == {DNS, other}
        assert await served(DNS) == {C}
        assert heir.marks("ip", DNS, [C]) == kept


async def test_a_table_of_ours_under_another_name_goes_with_the_first_change(nft: FaultyNft) -> None:
    lower = Port(Protocol.TCP, 22)
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A)))
    async with running(nft, [lower, HTTP]) as heir:
        assert await served() == {A}
        await heir.settled(heir.want(http(B)))
        assert adopted.tables(await nft.read("list tables")) == [("ip", "ambassador_22")]


async def test_what_cannot_be_seen_at_the_start_does_not_keep_it_from_starting(nft: FaultyNft) -> None:
    nft.fail(Trouble.TIMED_OUT)
    async with running(nft) as tables:
        nft.trouble = None
        await tables.settled(tables.want(http(A)))
        assert await served() == {A}


async def test_C9_somebody_elses_change_is_found_and_undone(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A, B)))
        for number, harm in enumerate((f"delete element ip {NAME} tcp_80_slots {{ 0 }}", "flush ruleset"), 1):
            await Nft().apply(f"{harm}\n")
            await tables.look()
            assert tables.repairs == number
            await eventually_async(repaired(tables))
            assert await served() == {A, B}


IN_PLACE = f"replace rule ip {NAME} postrouting handle {{handle}} ct mark & 0xfff00000 == 0xa3b00000 accept\n"


@pytest.mark.parametrize("seen", [True, False], ids=["read back", "just written"])
async def test_C9_a_rule_replaced_in_place_is_found_and_undone(nft: FaultyNft, seen: bool) -> None:
    """No count tells it and no element: what the rules looked like when they were written does."""
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A, B)))
        if seen:
            await tables.look()
        before = await postrouting()
        await Nft().apply(IN_PLACE.format(handle=before["handle"]))
        assert (await postrouting())["expr"] != before["expr"]
        await tables.look()
        assert tables.repairs == seen, "what nobody has read back is written anew as a precaution"

        async def restored() -> bool:
            return bool((await postrouting())["expr"] == before["expr"])

        await eventually_async(restored)
        await eventually_async(repaired(tables))
        assert await served() == {A, B}
        await tables.look()
        await Nft().apply("add table ip somebody_elses\n")
        await tables.look()
        assert tables.repairs == seen, "its own repair is nobody else's change"


@pytest.mark.parametrize("wanted", [(A, B, C), (A,)], ids=["one more", "one less"])
async def test_C9_a_rule_replaced_just_before_a_change_of_ours_is_found_and_undone(
    nft: FaultyNft, wanted: tuple[Address, ...]
) -> None:
    """That change tells the kernel's generation number like any other: it must not pass for all that happened."""
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A, B)))
        await tables.look()
        before = await postrouting()
        await Nft().apply(IN_PLACE.format(handle=before["handle"]))
        await tables.settled(tables.want(http(*wanted)))

        async def restored() -> bool:
            await tables.look()
            return bool((await postrouting())["expr"] == before["expr"])

        await eventually_async(restored)
        assert await served() == set(wanted)
        written = tables.transactions
        await tables.settled(tables.want(http(B)))
        await tables.look()
        assert tables.transactions == written + 1, "and then it is known again"


@pytest.mark.parametrize("harm", ["", "flush table ip ambassador_53"], ids=["ours stand", "ours are flushed, too"])
async def test_C9_a_door_that_was_closed_just_before_a_change_of_ours_is_opened(nft: FaultyNft, harm: str) -> None:
    """Docker makes its chains anew when it starts, and its containers' coming makes changes of ours."""
    iptables("-N", "DOCKER-USER")
    iptables("-A", "FORWARD", "-j", "DOCKER-USER")
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A)))
        await tables.look()
        assert "connmark" in iptables("-S", "DOCKER-USER")
        iptables("-F", "DOCKER-USER")
        await Nft().apply(f"{harm}\n")
        await tables.settled(tables.want(http(A, B)))

        async def opened() -> bool:
            await tables.look()
            return "connmark" in iptables("-S", "DOCKER-USER")

        await eventually_async(opened)


def iptables(*arguments: str) -> str:
    """What it says."""
    return subprocess.run(["iptables-nft", *arguments], capture_output=True, text=True, check=True).stdout


async def postrouting() -> dict[str, Any]:
    """The one rule of that chain."""
    (rule,) = [item["rule"] for item in await Nft().read(f"list chain ip {NAME} postrouting") if "rule" in item]
    found: dict[str, Any] = rule
    return found


def repaired(tables: KernelTables) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return tables.error is None

    return look


async def test_somebody_elses_own_business_is_none_of_ours(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A)))
        await tables.look()
        await Nft().apply("add table ip somebody_elses\n")
        await tables.look()
        await tables.look()
        assert (tables.repairs, tables.transactions, tables.error) == (0, 1, None)


@pytest.mark.parametrize("kind", [Trouble.MISSING, Trouble.TIMED_OUT, Trouble.CRASHED, Trouble.ODD])
async def test_rules_that_cannot_be_read_are_not_taken_for_changed(
    nft: FaultyNft, kind: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A)))
        await tables.look()
        await Nft().apply("add table ip somebody_elses\n")  # which is a reason to read ours
        nft.fail(kind)
        for _ in range(3):
            await tables.look()
        nft.trouble = None
        await tables.look()
        assert (tables.repairs, tables.transactions, tables.error) == (0, 1, None)
    assert [record.levelname for record in caplog.records if record.name == "kernel"] == ["ERROR"]


async def test_who_refused_is_seen_until_it_is_gone(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A, B)))
        await tables.look()
        assert tables.refusing("ip", HTTP) == set()
        (dead,) = tables.marks("ip", HTTP, [B])
        await Nft().apply(f"add element ip {NAME} dead {{ {dead}, {dead + 100} }}\n")
        await tables.look()
        assert tables.refusing("ip", HTTP) == {B}
        assert tables.refusing("ip", DNS) == set()
        await tables.settled(tables.want(http(A)))
        await tables.look()
        assert tables.refusing("ip", HTTP) == set()


async def test_what_is_withdrawn_does_not_come_back_and_what_is_removed_is_not_written_again(nft: FaultyNft) -> None:
    async with running(nft) as tables:
        await tables.settled(tables.want(http(A)))
        nft.fail()
        await tables.withdraw()
        nft.trouble = None
        await tables.settled(tables.want(http(B)))
        await eventually_async(repaired(tables))
        assert await served() == set()
        await Nft().apply("flush ruleset\n")
        await tables.look()  # which makes it want to repair
        await tables.remove()
        await asyncio.sleep(1)  # longer than the first retry
        assert adopted.tables(await nft.read("list tables")) == []
        await tables.look()
        assert tables.repairs == 1
